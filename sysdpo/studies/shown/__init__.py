"""The studies' figures, tables and text for the report, one file per study; torch is not imported here."""
