"""Tables, figures and the report page, from the files of a run alone."""
