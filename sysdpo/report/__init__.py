"""Tables, figures and the report page, made from the files a run leaves and from nothing else."""
