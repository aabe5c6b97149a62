"""The pages. Beside them: their tables, which come from the program, and the hook of MkDocs that makes the site."""
