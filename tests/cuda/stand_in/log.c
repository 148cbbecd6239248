// The log, settings and faults. Every library has its own copy; all append to one file.
#include "stand_in.h"
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void event(const char *format, ...) {
    static int file = -2;
    if (file == -2) {
        const char *path = getenv("STAND_IN_LOG");
        file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
    }
    if (file < 0) return;
    char line[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length > (int)sizeof line - 2) length = sizeof line - 2;
    line[length++] = '\n';
    // One write per line: lines of several threads and libraries stay whole.
    if (write(file, line, length) != length) abort();
}

long long setting(const char *variable, long long otherwise) {
    const char *value = getenv(variable);
    return value ? strtoll(value, NULL, 0) : otherwise;
}

int fault(const char *function) {
    static int calls;
    const char *wanted = getenv("STAND_IN_FAIL");
    size_t length = strlen(function);
    if (!wanted || strncmp(wanted, function, length) || wanted[length] != ':') return 0;
    char *code;
    long at = strtol(wanted + length + 1, &code, 10);
    if (__sync_add_and_fetch(&calls, 1) != at || *code != ':') return 0;
    event("fail %s", wanted);
    return atoi(code + 1);
}

void generated(const char *function) {
    event("call %s", function);
}
