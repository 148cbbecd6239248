// What all libraries of the stand-in share: the log, settings, and faults on request.
#pragma once
#include <stddef.h>

// Marks what the library exports; everything else is hidden.
#define OUT __attribute__((visibility("default")))

// Writes one line to the file that STAND_IN_LOG names.
__attribute__((format(printf, 1, 2))) void event(const char *format, ...);

// The value of a variable, or `otherwise`.
long long setting(const char *variable, long long otherwise);

// The error that STAND_IN_FAIL=FUNCTION:N:CODE asks of the N-th call (from 1) of a function, else 0.
int fault(const char *function);

// Called by functions that build.py generates: the log names them, because their work may matter.
void generated(const char *function);
