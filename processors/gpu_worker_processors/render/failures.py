"""From how FFmpeg ended to an error that a caller can act on.

FFmpeg's own text never leaves: it may quote file contents, and it names files of the worker. It is
only searched for sentences that are known, in an order that puts causes before consequences; the
caller gets our words for them.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gpu_worker_client.protocol import ErrorCode, TaskError
from gpu_worker_client.protocol.foreign import parse_integer
from gpu_worker_processors.render.command import size_limits, units
from gpu_worker_processors.render.command.graph import MAX_FONT_PX
from gpu_worker_processors.render.command.legacy import modern_value


@dataclass(frozen=True)
class _Sentence:
    """Something FFmpeg says, and what it means. The pattern's groups, numbers and fixed words, fill
    the message's `{}`."""

    pattern: re.Pattern[str]
    code: ErrorCode
    message: str
    reason: str = ""
    """`details.reason`, which distinguishes errors of the same code."""


def _says(pattern: str, code: ErrorCode, message: str, *, reason: str = "") -> _Sentence:
    return _Sentence(re.compile(pattern), code, message, reason)


_BY = r"\[Parsed_(\w+)_\d+ @ \w+\] "
"""Whose line of the log it is: the filter's name."""
_NOT_UTF_8 = _says(
    r"Invalid UTF-8 in decoded subtitles text",
    ErrorCode.invalid_task,
    "the subtitles are not UTF-8 text: say what they are in the filter, with charenc=CP1252 for"
    " example, or send them as UTF-8",
    reason="subtitle_encoding",
)
_NOTHING_WRITTEN = (
    "the command writes nothing: check its -ss, -t and -frames, and its filters, against the length"
    " of the inputs"
)
_NO_STREAM = re.compile(r"Failed to set value '([^'?]*)' for option 'map'")
_SENTENCES = (
    _says(r"No space left on device", ErrorCode.disk_full, "the disk for job directories is full"),
    _says(
        r"File too large", ErrorCode.output_too_large, "the output exceeds this worker's size limit"
    ),
    _says(
        r"\A(?:(?!orrupt|Invalid |rror)[\s\S])*No filtered frames for output stream",
        ErrorCode.output_invalid,
        _NOTHING_WRITTEN,
        reason="empty_output",
    ),
    _says(
        r"-to value smaller than -ss",
        ErrorCode.invalid_task,
        "-to lies before -ss: both count from the beginning; -t is a length",
    ),
    _says(
        r"Stray % near",
        ErrorCode.invalid_task,
        "the text of drawtext has a % that begins no %{{...}}: give the filter expansion=none to"
        " draw the text as it is",
        reason="text",
    ),
    _says(
        r"max_streams|Too many streams",
        ErrorCode.media_limit,
        "an input has more streams than this worker reads; keep a few",
    ),
    _says(
        r"Unable to find mapping variant stream",
        ErrorCode.invalid_task,
        "-var_stream_map leaves out a stream of the output: name each, as in"
        ' "v:0,a:0,name:low", or leave it out with -map',
        reason="no_such_stream",
    ),
    _says(
        r"Cannot allocate memory|malloc .*failed|Resource temporarily unavailable|get_buffer\(\)"
        r" failed",
        ErrorCode.resource_exhausted,
        "the command needed more memory than a job may have; use smaller frames or fewer of them"
        " at once",
    ),
    _says(
        r"Picture size (\d+)x(\d+) (?:is invalid|exceeds)",
        ErrorCode.media_limit,
        "frames of {}x{} pixels are more than this worker handles",
    ),
    _says(
        rf"\[crop@{size_limits.OWN} @ \w+\] Invalid too big",
        ErrorCode.media_limit,
        f"a filter makes frames of more than {units.MAX_PIXELS} pixels, the most that this worker"
        " handles",
    ),
    _says(
        r"fontsize overflow",
        ErrorCode.media_limit,
        f"the fontsize of drawtext may be {MAX_FONT_PX}",
    ),
    _says(
        r"Invalid too big or non positive size for width '(-?\d+)' or height '(-?\d+)'",
        ErrorCode.invalid_task,
        "a crop of {}x{} pixels does not fit into its frame",
    ),
    _says(
        r"(width|height) not divisible by 2 \((\d+)x(\d+)\)",
        ErrorCode.invalid_task,
        "the encoder needs an even {}, and the frame is {}x{}; scale or crop it to even numbers",
    ),
    _says(
        r"Cannot find an unused (\w+) input stream to feed the unlabeled input pad (\w+)",
        ErrorCode.invalid_task,
        "no {} stream of the inputs is left for the filter {}: name its inputs in brackets, as in"
        " [0:v][1:v]",
        reason="no_such_stream",
    ),
    _says(
        _NO_STREAM.pattern,
        ErrorCode.invalid_task,
        "-map {0} takes a stream that its input does not have; -map {0}? passes over it",
        reason="no_such_stream",
    ),
    _says(
        r"Stream specifier '([^']*)' in filtergraph .* matches no streams",
        ErrorCode.invalid_task,
        "the filter graph reads [N{0}], and input N has no such stream",
        reason="no_such_stream",
    ),
    _says(
        r"Stream map '[^']*' matches no streams|Stream specifier '[^']*' in filtergraph .* matches"
        r" no streams|"
        r"Cannot find a matching stream|Error binding filtergraph inputs|Invalid file index",
        ErrorCode.invalid_task,
        "the command takes a stream that its inputs do not have",
        reason="no_such_stream",
    ),
    _says(
        r"Output file does not contain any stream",
        ErrorCode.invalid_task,
        "the inputs have no stream that the output could hold",
        reason="no_such_stream",
    ),
    _says(
        r"Only .* are supported for|codec not currently supported in container|Could not find tag"
        r" for codec|"
        r"incorrect codec parameters|not supported in container|Exactly one .* stream|only"
        r" supports",
        ErrorCode.invalid_task,
        "the output's container cannot hold what the command puts into it; choose another container"
        " or encoder",
        reason="container",
    ),
    _says(
        r"Output file is empty",
        ErrorCode.output_invalid,
        _NOTHING_WRITTEN,
        reason="empty_output",
    ),
    _NOT_UTF_8,
    _says(
        r"Invalid data found when processing input|Packet corrupt|corrupt input packet|error while"
        r" decoding|"
        r"Error while decoding|Invalid NAL unit|moov atom not found|partial file|Truncat",
        ErrorCode.corrupt_media,
        "an input is damaged: FFmpeg could not decode all of it, so nothing was delivered",
    ),
    _says(
        r"Cannot find a valid font|Could not load font|Fontconfig error: Cannot load",
        ErrorCode.invalid_task,
        "drawtext cannot use this font: give a .ttf or .otf file among the inputs and name it in"
        " fontfile",
        reason="font",
    ),
    _says(
        r"\[Parsed_([a-z0-9]+)_\d+ @ \w+\] (?:\[Eval @ \w+\] )?"
        r"(?:Undefined constant|Missing|Invalid chars|Unknown function|Cannot parse"
        r" expression|Error when evaluating)",
        ErrorCode.invalid_task,
        "an expression of the filter {} cannot be evaluated; look for a misspelt name or a bracket"
        " in it",
        reason="expression",
    ),
    _says(
        _BY + r"Input link \S+ parameters \(size (\d+x\d+), SAR [\d:]+\) do not"
        r" match the corresponding output link \S+ parameters \((\d+x\d+)",
        ErrorCode.invalid_task,
        "the filter {} joins frames of one size and pixel shape; here one input has {} and the"
        " first one {}: give each a scale and setsar=1 before it",
        reason="filters",
    ),
    _says(
        _BY + r"First input link \w+ parameters \(size (\d+x\d+)\) do not match"
        r" the corresponding second input link \w+ parameters \(size (\d+x\d+)",
        ErrorCode.invalid_task,
        "the filter {} takes two inputs of one size; here they have {} and {}: scale one of them"
        " before it",
        reason="filters",
    ),
    _says(
        _BY + r"Input \d+ (width|height) (\d+) does not match input \d+ \w+ (\d+)",
        ErrorCode.invalid_task,
        "the filter {} takes inputs of one {}; here one has {} and another {}: scale it before",
        reason="filters",
    ),
    _says(
        _BY + r".*(?:timebase|frame rate)[^\n]* do(?:es)? not match",
        ErrorCode.invalid_task,
        "the filter {} takes inputs of one frame rate: give each fps=25, for example, and"
        " settb=AVTB before it",
        reason="filters",
    ),
    _says(
        r"\[Parsed_(pad)_\d+ @ \w+\] Padded dimensions cannot be smaller",
        ErrorCode.invalid_task,
        "the filter {} makes frames larger, and here its size is below theirs: scale before it",
        reason="filters",
    ),
    _says(
        r"Impossible to convert between the formats supported by the filter '[^']*' and the filter"
        r" '(?:Parsed_)?(?:auto_)?(hwdownload|hwupload_cuda|hwupload|\w+_cuda)(?:_\d+)?'|"
        r"-> 'Parsed_(hwdownload|hwupload_cuda|hwupload|\w+_cuda)_\d+",
        ErrorCode.invalid_task,
        "the filter {} works on frames of the other memory: hwupload_cuda brings frames to the"
        " card, hwdownload,format=nv12 brings them back",
        reason="filters",
    ),
    _says(
        r"(?:Failed to configure (?:in|out)put pad on Parsed_|Error initializing filter ')"
        r"(\w+?)(?:_\d+)?\b|"
        r"\[Parsed_(\w+)_\d+ @ \w+\] [^\n]*\n(?:[^\n]*\n)?[^\n]*"
        r"Error (?:while filtering|reinitializing filters|initializing filters)|"
        r"Error applying option '\w+' to filter '(\w+)'",
        ErrorCode.invalid_task,
        "the filter {} does not take what comes into it, or one of its values: look at the size,"
        " pixel format and rate of its input",
        reason="filters",
    ),
    _says(
        r"Impossible to convert between the formats|Error reinitializing filters|"
        r"Error initializing filter|Error configuring filter|do not match the corresponding|Filter"
        r" not found|Undefined constant|Error when evaluating the expression|Invalid size",
        ErrorCode.invalid_task,
        "the filter graph does not fit its inputs: a filter gets another size, format or number of"
        " streams than it takes",
        reason="filters",
    ),
    _says(
        r"x26[45] \[error\]: (baseline|main|high|high10|main10|high422) profile doesn't support"
        r" ([0-9:]+|[a-z ]+)",
        ErrorCode.invalid_task,
        "the encoder's profile {} does not hold {}: leave out -profile:v, or convert with"
        " format=yuv420p",
        reason="encoder",
    ),
    _says(
        r"(preset|profile|tune) '[^']*'|Error setting (preset|profile)",
        ErrorCode.invalid_task,
        "the encoder has no such {}",
        reason="encoder",
    ),
    _says(
        r"Error parsing option '(\w+) = ",
        ErrorCode.invalid_task,
        "the encoder has no parameter {}, or not with this value",
        reason="encoder",
    ),
    _says(
        r"Error while opening encoder|Could not open encoder|Unable to parse|Error setting"
        r" option|Error applying",
        ErrorCode.invalid_task,
        "the encoder does not take these options for these frames",
        reason="encoder",
    ),
)

_PARTLY = "an input is damaged or cut off: FFmpeg read only a part of it, so nothing was delivered"
_DAMAGE = _says(
    r"File ended prematurely|filesize and duration do not match|CRC mismatch|LZW decode failed",
    ErrorCode.corrupt_media,
    _PARTLY,
)
"""What FFmpeg says, and then goes on and returns 0, about an input that is cut off or damaged:
Matroska, AVI, MP3, Ogg, GIF."""
_LOST = _says(r"Packet corrupt", ErrorCode.corrupt_media, _PARTLY)
"""What FFmpeg says where packets of a transport stream are missing. It says so where two are
joined, too."""
_UNREAD = _says(
    r"Invalid data found when processing input|[Ee]rror while decoding|Error submitting packet to"
    r" decoder",
    ErrorCode.corrupt_media,
    _PARTLY,
)
"""What decoders say of what they cannot read."""
_DAMAGED_INPUT = re.compile(
    r"\[(?:in|[vas]ist)#([0-9]+)[^\n]*(?:orrupt|Invalid data|rror|prematurely|do not match)"
)
"""The number of the input in a line of its demuxer or decoder."""

_MISSING_LETTER = re.compile(r"failed to find any fallback with glyph 0x([0-9A-Fa-f]{1,6}) ")
"""What libass says of a letter that no font has."""

_HARDWARE = tuple(
    (re.compile(pattern, re.IGNORECASE), reason)
    for pattern, reason in (
        (
            r"Cannot load (?:libcuda|libnvidia-encode|nvcuda|nvEncodeAPI)",
            "the NVIDIA driver has no encoder here",
        ),
        (r"No capable devices found|unsupported device", "this GPU has no encoder for it"),
        (r"minimum required Nvidia driver|Driver does not support", "the NVIDIA driver is too old"),
        (
            r"OpenEncodeSessionEx failed: (?:out of memory|incompatible client key)",
            "all its sessions are in use",
        ),
        (
            r"10 bit encode not supported|doesn't support required NVENC features",
            "this GPU cannot encode this format",
        ),
        (
            r"(?:Width|Height|dimension)[^\n]*(?:exceed|not supported)|InitializeEncoder",
            "it takes no frames of this size",
        ),
        (
            r"CUDA_ERROR|cuInit|load CUDA|No device available|Device creation failed",
            "no GPU can be used here",
        ),
    )
)


def missing_letters(log: str) -> set[str]:
    """Letters of subtitles that no font has."""
    codes = (int(code, 16) for code in _MISSING_LETTER.findall(log))
    return {chr(code) for code in codes if code <= sys.maxunicode and chr(code).isprintable()}


def hardware_problem(log: str, encoder: str) -> str | None:
    """Why the hardware encoder could not be opened, None when that is not what went wrong."""
    if f"[{encoder} @" not in log and "[CUDA @" not in log and f"enc:{encoder} @" not in log:
        return None
    return next((reason for pattern, reason in _HARDWARE if pattern.search(log)), None)


def damage(log: str, words: Sequence[str] = (), *, all_errors: bool = False) -> TaskError | None:
    """The error for an input of which FFmpeg took only a part, which it counts as a success; None
    when it saw none.

    Args:
        words: of the caller's command, to name the input.
        all_errors: FFmpeg was not to end at the first error, so errors of decoders count too.
    """
    error = _first((_NOT_UTF_8, _DAMAGE, _UNREAD if all_errors else _LOST), log)
    return error and _with_input(error, log, words)


def _first(sentences: Iterable[_Sentence], log: str) -> TaskError | None:
    """The error of the first sentence that is in the log."""
    for sentence in sentences:
        found = sentence.pattern.search(log)
        if found:
            words = (group for group in found.groups() if group is not None)
            error = TaskError(sentence.code, sentence.message.format(*words))
            if sentence.reason:
                error.details["reason"] = sentence.reason
            return error
    return None


def _with_input(error: TaskError, log: str, words: Sequence[str]) -> TaskError:
    """Names the input that is damaged."""
    found = _DAMAGED_INPUT.search(log)
    inputs = [name for option, name in pairwise(words) if option == "-i"]
    number = parse_integer(found[1], most=len(inputs) - 1) if found else None
    if error.code is ErrorCode.corrupt_media and number is not None:
        error.message = error.message.replace("an input", f'the input "{inputs[number]}"', 1)
        error.details["input"] = inputs[number]
    return error


def _with_token(error: TaskError, log: str, words: Sequence[str]) -> TaskError:
    """Names the word that asks for a stream that is not there."""
    found = _NO_STREAM.search(log)
    for index, (option, value) in enumerate(pairwise(words), start=1):
        if found and option == "-map" and modern_value("map", value) == found[1]:
            error.message = f"command_args[{index}]: {error.message}"
            error.details["token_index"] = index
            break
    return error


def failure(status: int, log: str, words: Sequence[str] = ()) -> TaskError:
    """The typed error for an end that is no success.

    Args:
        status: as `Popen.returncode`: what FFmpeg returned, or minus the signal that ended it.
        log: what it wrote to its standard error.
        words: of the caller's command, to name the one at fault.
    """
    if status == -signal.SIGXFSZ:
        return TaskError(ErrorCode.output_too_large, "the output exceeds this worker's size limit")
    if status == -signal.SIGXCPU:
        return TaskError(
            ErrorCode.time_limit, "the command used more processor time than a job may have"
        )
    if status == -signal.SIGKILL:
        message = (
            "the system ended FFmpeg (most often: out of memory); retry, on a worker with more"
            " memory if it repeats"
        )
        return TaskError(ErrorCode.resource_exhausted, message)
    error = _first(_SENTENCES, log)
    if error is not None:
        return _with_input(_with_token(error, log, words), log, words)
    if status < 0:
        return TaskError(ErrorCode.corrupt_media, "FFmpeg crashed; an input may be made to do that")
    return TaskError(
        ErrorCode.invalid_task,
        "FFmpeg could not run this command on these inputs, for a reason that this worker does not"
        " know; try it with FFmpeg's own program first",
    )
