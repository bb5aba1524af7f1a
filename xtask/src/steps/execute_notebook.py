"""Executes the notebook of the first argument and writes it to the second; an error in a cell ends it."""

import sys

import nbclient
import nbformat

book = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
nbformat.write(book, sys.argv[2])
