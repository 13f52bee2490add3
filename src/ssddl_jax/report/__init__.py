"""From the files of a finished run to one page. Reads files only and imports no simulation."""
