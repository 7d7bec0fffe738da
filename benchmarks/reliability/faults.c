// Stands between a process and its file system (LD_PRELOAD): at the n-th call on a path below a folder the
// process is killed, or the call fails. A write that is killed has written half of its bytes.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define FILES 4096
static char root[4096];
static char below[FILES];
static long seen, at;
static int fault, stays;

void faults_arm(const char *folder, long call, int error, int from_then_on) {
    strncpy(root, folder, sizeof root - 1);
    memset(below, 0, sizeof below);
    seen = 0, at = call, fault = error, stays = from_then_on;
}

long faults_seen(void) { return seen; }

static int is_ours(int folder, const char *path) {
    if (!root[0]) return 0;
    if (path[0] != '/' && folder >= 0 && folder < FILES) return below[folder];
    size_t length = strlen(root);
    return !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

static int strike(void) {
    seen++;
    if (!at || (stays ? seen < at : seen != at)) return 0;
    if (!fault) kill(getpid(), SIGKILL);
    errno = fault;
    return 1;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)

#define OPEN(name)                                                             \
    int name(const char *path, int flags, ...) {                               \
        REAL(name);                                                            \
        va_list rest; va_start(rest, flags);                                   \
        mode_t mode = va_arg(rest, mode_t); va_end(rest);                      \
        int ours = is_ours(-1, path);                                          \
        if (ours && strike()) return -1;                                       \
        int file = real(path, flags, mode);                                    \
        if (file >= 0 && file < FILES) below[file] = ours;                     \
        return file;                                                           \
    }
#define OPENAT(name)                                                           \
    int name(int folder, const char *path, int flags, ...) {                   \
        REAL(name);                                                            \
        va_list rest; va_start(rest, flags);                                   \
        mode_t mode = va_arg(rest, mode_t); va_end(rest);                      \
        int ours = is_ours(folder, path);                                      \
        if (ours && strike()) return -1;                                       \
        int file = real(folder, path, flags, mode);                            \
        if (file >= 0 && file < FILES) below[file] = ours;                     \
        return file;                                                           \
    }
#define ON_FILE(type, name, parameters, arguments)                             \
    type name parameters {                                                     \
        REAL(name);                                                            \
        if (file >= 0 && file < FILES && below[file] && strike()) return -1;   \
        return real arguments;                                                 \
    }
#define ON_PATH(name, parameters, arguments)                                   \
    int name parameters {                                                      \
        REAL(name);                                                            \
        if (is_ours(-1, path) && strike()) return -1;                          \
        return real arguments;                                                 \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int file, const void *bytes, size_t size) {
    REAL(write);
    if (file >= 0 && file < FILES && below[file]) {
        if (at && !fault && seen + 1 == at) real(file, bytes, size / 2);
        if (strike()) return -1;
    }
    return real(file, bytes, size);
}

ON_FILE(int, fsync, (int file), (file))
ON_FILE(int, fdatasync, (int file), (file))
ON_FILE(int, ftruncate, (int file, off_t size), (file, size))
ON_FILE(int, ftruncate64, (int file, off64_t size), (file, size))
ON_FILE(int, fchmod, (int file, mode_t mode), (file, mode))
ON_PATH(rename, (const char *path, const char *to), (path, to))
ON_PATH(mkdir, (const char *path, mode_t mode), (path, mode))
ON_PATH(rmdir, (const char *path), (path))
ON_PATH(unlink, (const char *path), (path))
ON_PATH(chmod, (const char *path, mode_t mode), (path, mode))

int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat);
    if (is_ours(folder, path) && strike()) return -1;
    return real(folder, path, flags);
}

int close(int file) {
    REAL(close);
    if (file >= 0 && file < FILES) below[file] = 0;
    return real(file);
}
