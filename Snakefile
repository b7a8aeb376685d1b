# The workflow lives in workflow/; this file lets `snakemake` find it from the repository's root.
include: "workflow/Snakefile"


# An included file cannot choose the default target.
rule default:
    input:
        rules.all.input,
