"""One adapter per framework, all keeping the contract of :mod:`adapters.contract`."""
