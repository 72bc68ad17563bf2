"""The parts of the section of diagnostics: what each reads, draws and prints."""
