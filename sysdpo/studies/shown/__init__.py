"""What the report shows of each study, a file each; torch is not imported here."""
