"""Kinds of values that have a form and nothing behind it: a regular expression for each."""

from __future__ import annotations

FORMS = {
    "bool": (
        r"0|1|-1|auto|true|yes|y|on|enabled?|false|no|n|off|disabled?",
        "0 or 1",
    ),
    "color": (
        r"(?:[A-Za-z]{2,24}|(?:#|0x)?[0-9A-Fa-f]{6}(?:[0-9A-Fa-f]{2})?)(?:@(?:0x[0-9A-Fa-f]{1,2}|[01]?(?:\.[0-9]{1,6})?))?",
        'a colour, "white", "#ff8800" or "black@0.5" for example',
    ),
    "ratio": (
        r"[0-9]{1,9}(?:\.[0-9]{1,9})?(?:[:/][0-9]{1,9}(?:\.[0-9]{1,9})?)?",
        'a ratio, "16/9" for example',
    ),
    "name": (r"[A-Za-z0-9_][A-Za-z0-9_.()+-]{0,63}", "a name"),
    "names": (
        r"[A-Za-z0-9_.()+-]{1,32}(?:\|[A-Za-z0-9_.()+-]{1,32}){0,63}",
        "names with | between them",
    ),
    "word": (r"\w[\w .-]{0,63}", "letters, digits, spaces, _ . and -"),
    "words": (r"[A-Za-z0-9_+|,.#@() -]{1,512}", "words with |, comma or _ between them"),
    "numbers": (r"[-+0-9.eE |,/:;S]{1,1024}", "numbers with spaces, | or / between them"),
    "digits": (r"[0-9]{1,32}", "digits"),
    "mix": (
        r"[A-Za-z0-9_.()]{1,32}(?:\|[A-Za-z0-9_+*.=<() -]{1,256}){0,64}",
        'channels, "stereo|c0=FL|c1=FR" for example',
    ),
    "bands": (r"[A-Za-z0-9 .=|-]{0,1024}", 'bands, "c0 f=200 w=100 g=-10" for example'),
    "vmaf": (
        r"(?:version|name|motion\.[a-z_]+)=[a-zA-Z0-9_.]{1,64}(?::[a-z_]{1,32}=[a-z0-9_.]{1,64}){0,8}"
        r"(?:\|(?:version|name)=[a-zA-Z0-9_.]{1,64}(?::[a-z_]{1,32}=[a-z0-9_.]{1,64}){0,8}){0,8}",
        'a model that FFmpeg comes with, "version=vmaf_v0.6.1" for example',
    ),
    "picked": (
        r"[a-z0-9:]{1,16}(?:\+[a-z0-9:]{1,16}){0,31}",
        'streams with + between them, "dv+da" for example',
    ),
    "style": (r"[\w ,=&.#+-]{1,512}", 'a style, "FontSize=24,Outline=1" for example'),
    "ignored": (r"[^\x00]*", "anything"),
    "stdout": (
        r"-|pipe:[012]?|[\w .-]+",
        "- or a name: the worker itself reports progress",
    ),
    "timecode": (r"[0-9]{2}:[0-9]{2}:[0-9]{2}[:;.][0-9]{2}", '"HH:MM:SS:FF"'),
}
"""Name of the kind -> (regular expression, what it means)."""
