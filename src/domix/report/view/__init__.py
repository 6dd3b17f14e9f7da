"""The study view: several test domains' results, collected into one set of tables and figures for print."""
