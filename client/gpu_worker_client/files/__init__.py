"""Path in, path out: every task as a method on files.

`work` says what to do on paths and URLs and checks it, `transfer` uploads, runs and downloads with
a client, `methods` gives `Client` and `AsyncClient` a method for each task.
"""
