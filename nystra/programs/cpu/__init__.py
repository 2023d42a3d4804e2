"""Programs for the processor, in C++ with one object for each instruction set; the sources are in `source`."""
