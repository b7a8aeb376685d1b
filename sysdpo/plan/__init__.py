"""What a run will take, before anything is spent: counted on networks without weights."""
