"""From the files of a finished run to one page. Reads files only; imports no simulation."""
