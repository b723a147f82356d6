"""Boxes of tracks, by the million: `arrays` holds them, `sequence` shows them as a list of
`TrackBox`, `json` and `columnar` are their two forms on the wire."""
