"""Where it is kept: the event log and its projections, the PDF objects, the library folder."""
