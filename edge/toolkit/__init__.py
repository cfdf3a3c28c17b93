"""Tools that ship: Python in a sandbox, a calculator, the clock, files of a folder, documents, their browser."""
