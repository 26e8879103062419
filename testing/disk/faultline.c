/* faultline: between a program and its disk.  Preloaded (LD_PRELOAD), it sees every write-path call below one
 * folder, counts it, writes it down, and makes the one that was asked for fail or be the last.
 *
 * It is armed by faultline_arm and knows nothing before; all calls that it sees go through one lock, so that
 * the order in its record is the order in which the kernel had them.  The record's layout is read by shim.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8 && sizeof(long) == 8, "faultline is written for 64-bit Linux");

#define FDS 4096
#define PATH 4096
#define IOVS 1024
#define MAGIC 0x51544c46u

enum op { MARK, OPEN, OPENAT, WRITE, PWRITE, WRITEV, PWRITEV, FSYNC, FDATASYNC, MSYNC, FTRUNCATE, FALLOCATE,
          RENAME, RENAMEAT, RENAMEAT2, UNLINK, UNLINKAT, MKDIR, MKDIRAT, RMDIR, LINK, LINKAT };
enum fault { NONE, KILL_BEFORE, KILL_AFTER, FAIL_EIO, FAIL_ENOSPC, FAIL_AFTER, SHORT, FULL, FULL_SHORT };

struct record {
    uint32_t magic;
    uint16_t op, injected;
    int64_t number, result, offset, flags;
    int32_t fd, error;
    uint32_t path_bytes, other_bytes, data_bytes, pad;
};

static struct { dev_t dev; ino_t ino; int used; } tracked[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH];
static size_t root_bytes;
static int record_fd = -1, armed, with_data;
static int fault, full_now;
static long fault_at, fault_span, count, refused;

/* What the script calls (through ctypes). */

int faultline_arm(const char *folder, const char *record, int kind, long at, long span, int data)
{
    pthread_mutex_lock(&lock);
    root_bytes = strlen(folder);
    memcpy(root, folder, root_bytes + 1);
    memset(tracked, 0, sizeof tracked);
    record_fd = syscall(SYS_openat, AT_FDCWD, record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    fault = kind, fault_at = at, fault_span = span, with_data = data, count = refused = full_now = 0;
    armed = record_fd >= 0;
    pthread_mutex_unlock(&lock);
    return armed;
}

static void put(enum op op, int injected, long number, long result, int error, int fd, long offset, long flags,
                const char *path, const char *other, const struct iovec *data, int parts, size_t data_bytes)
{
    struct record head = { MAGIC, op, injected, number, result, offset, flags, fd, error,
                           path ? strlen(path) : 0, other ? strlen(other) : 0, data_bytes, 0 };
    struct iovec out[IOVS + 3] = { { &head, sizeof head }, { (void *)path, head.path_bytes },
                                   { (void *)other, head.other_bytes } };
    int n = 3;
    size_t left = data_bytes;
    for (int i = 0; i < parts && left; i++) {
        size_t take = data[i].iov_len < left ? data[i].iov_len : left;
        out[n].iov_base = data[i].iov_base, out[n++].iov_len = take, left -= take;
    }
    syscall(SYS_writev, record_fd, out, n < IOVS ? n : IOVS);
}

void faultline_mark(const char *text)
{
    pthread_mutex_lock(&lock);
    if (armed)
        put(MARK, 0, 0, 0, 0, -1, 0, 0, text, 0, 0, 0, 0);
    pthread_mutex_unlock(&lock);
}

/* What is below the folder. */

static int absolute(int at, const char *path, char *out)
{
    char link[64];
    long n = 0;
    if (path[0] != '/') {
        if (at == AT_FDCWD)
            n = syscall(SYS_getcwd, out, PATH) > 0 ? (long)strlen(out) : -1;
        else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
            n = syscall(SYS_readlinkat, AT_FDCWD, link, out, PATH - 1);
        }
        if (n < 0)
            return 0;
        out[n++] = '/';
    }
    if (n + strlen(path) + 1 > PATH)
        return 0;
    strcpy(out + n, path);
    return armed && !strncmp(out, root, root_bytes) && (out[root_bytes] == '/' || !out[root_bytes]);
}

static int known(int fd)
{
    struct stat status;
    if (!armed || fd < 0 || fd >= FDS || !tracked[fd].used)
        return 0;
    return !fstat(fd, &status) && status.st_dev == tracked[fd].dev && status.st_ino == tracked[fd].ino;
}

static void remember(int fd)
{
    struct stat status;
    if (fd < 0 || fd >= FDS || fstat(fd, &status))
        return;
    tracked[fd].used = 1, tracked[fd].dev = status.st_dev, tracked[fd].ino = status.st_ino;
}

/* What becomes of a call. */

static int needs_room(enum op op, int creates)
{
    return creates || op == WRITE || op == PWRITE || op == WRITEV || op == PWRITEV || op == FALLOCATE ||
           op == RENAME || op == RENAMEAT || op == RENAMEAT2 || op == MKDIR || op == MKDIRAT || op == LINK ||
           op == LINKAT;
}

static int writes(enum op op) { return op == WRITE || op == PWRITE || op == WRITEV || op == PWRITEV; }

static int judge(enum op op, int creates, long *number)
{
    *number = ++count;
    if (fault == FULL || fault == FULL_SHORT) {
        if (!needs_room(op, creates))
            return NONE;
        full_now = count >= fault_at && (fault_span < 0 || refused < fault_span);
        if (!full_now)
            return NONE;
        return refused++ || fault == FULL || !writes(op) ? FAIL_ENOSPC : SHORT;
    }
    return *number == fault_at ? fault : NONE;
}

struct call {
    enum op op;
    int fd, creates;
    long offset, flags;
    const char *path, *other;
    const struct iovec *data;
    int parts;
    size_t bytes;
};

static void die(void)
{
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;)
        pause();
}

/* The call's number and fault; for those that refuse it, its result is written down here. */
static int before(struct call *call, long *number)
{
    int what = judge(call->op, call->creates, number);
    if (what == KILL_BEFORE || what == FAIL_EIO || what == FAIL_ENOSPC) {
        int error = what == FAIL_EIO ? EIO : what == FAIL_ENOSPC ? ENOSPC : 0;
        put(call->op, what, *number, -1, error, call->fd, call->offset, call->flags, call->path, call->other, 0,
            0, 0);
        if (what == KILL_BEFORE)
            die();
        errno = error;
        pthread_mutex_unlock(&lock);
    }
    return what;
}

static int refuses(int what) { return what == FAIL_EIO || what == FAIL_ENOSPC; }

static long after(struct call *call, int what, long number, long result)
{
    int error = errno;
    size_t bytes = with_data && result > 0 && call->data ? (size_t)result : 0;
    put(call->op, what, number, result, result < 0 ? error : 0, call->fd, call->offset, call->flags, call->path,
        call->other, call->data, call->parts, bytes);
    if (what == KILL_AFTER)
        die();
    if (what == FAIL_AFTER)
        error = EIO, result = -1;
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

#define PERFORM(call, expression)                                                                            \
    do {                                                                                                     \
        long number;                                                                                         \
        int what = before(&(call), &number);                                                                 \
        if (refuses(what))                                                                                   \
            return -1;                                                                                       \
        long result = (expression);                                                                          \
        return after(&(call), what, number, result);                                                         \
    } while (0)

/* Opening. */

static int opened(enum op op, int at, const char *path, int flags, mode_t mode)
{
    char whole[PATH];
    pthread_mutex_lock(&lock);
    if (!absolute(at, path, whole)) {
        pthread_mutex_unlock(&lock);
        return syscall(SYS_openat, at, path, flags, mode);
    }
    struct call call = { .op = op, .creates = (flags & (O_CREAT | O_TRUNC)) != 0, .fd = -1, .flags = flags,
                         .path = whole };
    long number = 0;
    int what = call.creates ? before(&call, &number) : NONE;
    if (refuses(what))
        return -1;
    int fd = syscall(SYS_openat, at, path, flags, mode);
    call.fd = fd;
    if (what == FAIL_AFTER && fd >= 0)
        syscall(SYS_close, fd);
    else
        remember(fd);
    return after(&call, what, number, fd);
}

static mode_t mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(rest, int) : 0;
}

#define OPENS(name)                                                                                          \
    int name(const char *path, int flags, ...)                                                               \
    {                                                                                                        \
        va_list rest;                                                                                        \
        va_start(rest, flags);                                                                               \
        mode_t mode = mode_of(flags, rest);                                                                  \
        va_end(rest);                                                                                        \
        return opened(OPEN, AT_FDCWD, path, flags, mode);                                                    \
    }
#define OPENS_AT(name)                                                                                       \
    int name(int at, const char *path, int flags, ...)                                                       \
    {                                                                                                        \
        va_list rest;                                                                                        \
        va_start(rest, flags);                                                                               \
        mode_t mode = mode_of(flags, rest);                                                                  \
        va_end(rest);                                                                                        \
        return opened(OPENAT, at, path, flags, mode);                                                        \
    }
OPENS(open)
OPENS(open64)
OPENS_AT(openat)
OPENS_AT(openat64)

int creat(const char *path, mode_t mode) { return opened(OPEN, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd)
{
    pthread_mutex_lock(&lock);
    if (fd >= 0 && fd < FDS)
        tracked[fd].used = 0;
    pthread_mutex_unlock(&lock);
    return syscall(SYS_close, fd);
}

/* Writing. */

static ssize_t written(enum op op, int fd, const struct iovec *data, int parts, off_t offset)
{
    size_t bytes = 0;
    struct iovec some[IOVS];
    pthread_mutex_lock(&lock);
    int ours = known(fd);
    for (int i = 0; i < parts; i++)
        bytes += data[i].iov_len;
    if (!ours || parts > IOVS) {
        pthread_mutex_unlock(&lock);
        return offset < 0 ? syscall(SYS_writev, fd, data, parts) : syscall(SYS_pwritev, fd, data, parts, offset, 0L);
    }
    off_t at = offset < 0 ? (off_t)syscall(SYS_lseek, fd, 0L, SEEK_CUR) : offset;
    struct call call = { .op = op, .fd = fd, .offset = at, .data = data, .parts = parts, .bytes = bytes };
    long number;
    int what = before(&call, &number);
    if (refuses(what))
        return -1;
    if (what == SHORT && bytes > 1) {
        size_t left = bytes / 2;
        int n = 0;
        for (; n < parts && left; n++) {
            some[n] = data[n];
            if (some[n].iov_len > left)
                some[n].iov_len = left;
            left -= some[n].iov_len;
        }
        data = some, parts = n;
    }
    long result = offset < 0 ? syscall(SYS_writev, fd, data, parts) : syscall(SYS_pwritev, fd, data, parts, offset, 0L);
    return after(&call, what, number, result);
}

ssize_t write(int fd, const void *bytes, size_t count_)
{
    struct iovec one = { (void *)bytes, count_ };
    return written(WRITE, fd, &one, 1, -1);
}

#define PWRITES(name)                                                                                        \
    ssize_t name(int fd, const void *bytes, size_t count_, off_t offset)                                     \
    {                                                                                                        \
        struct iovec one = { (void *)bytes, count_ };                                                        \
        return written(PWRITE, fd, &one, 1, offset);                                                         \
    }
PWRITES(pwrite)
PWRITES(pwrite64)

ssize_t writev(int fd, const struct iovec *data, int parts) { return written(WRITEV, fd, data, parts, -1); }

#define PWRITEVS(name)                                                                                       \
    ssize_t name(int fd, const struct iovec *data, int parts, off_t offset)                                  \
    {                                                                                                        \
        return written(PWRITEV, fd, data, parts, offset);                                                    \
    }
PWRITEVS(pwritev)
PWRITEVS(pwritev64)

#define PWRITEVS2(name)                                                                                      \
    ssize_t name(int fd, const struct iovec *data, int parts, off_t offset, int flags)                       \
    {                                                                                                        \
        (void)flags;                                                                                         \
        return written(PWRITEV, fd, data, parts, offset);                                                    \
    }
PWRITEVS2(pwritev2)
PWRITEVS2(pwritev64v2)

/* Calls on a descriptor. */

#define ON_DESCRIPTOR(fd_, op_, offset_, flags_, expression)                                                 \
    pthread_mutex_lock(&lock);                                                                               \
    if (!known(fd_)) {                                                                                       \
        pthread_mutex_unlock(&lock);                                                                         \
        return (expression);                                                                                 \
    }                                                                                                        \
    struct call call = { .op = op_, .fd = fd_, .offset = offset_, .flags = flags_ };                         \
    PERFORM(call, expression)

int fsync(int fd) { ON_DESCRIPTOR(fd, FSYNC, 0, 0, syscall(SYS_fsync, fd)); }
int fdatasync(int fd) { ON_DESCRIPTOR(fd, FDATASYNC, 0, 0, syscall(SYS_fdatasync, fd)); }
int ftruncate(int fd, off_t size) { ON_DESCRIPTOR(fd, FTRUNCATE, size, 0, syscall(SYS_ftruncate, fd, size)); }
int ftruncate64(int fd, off_t size) { ON_DESCRIPTOR(fd, FTRUNCATE, size, 0, syscall(SYS_ftruncate, fd, size)); }
int fallocate(int fd, int mode, off_t from, off_t bytes)
{
    ON_DESCRIPTOR(fd, FALLOCATE, from + bytes, mode, syscall(SYS_fallocate, fd, mode, from, bytes));
}
int fallocate64(int fd, int mode, off_t from, off_t bytes)
{
    ON_DESCRIPTOR(fd, FALLOCATE, from + bytes, mode, syscall(SYS_fallocate, fd, mode, from, bytes));
}

int msync(void *start, size_t bytes, int flags)
{
    pthread_mutex_lock(&lock);
    if (!armed) {
        pthread_mutex_unlock(&lock);
        return syscall(SYS_msync, start, bytes, flags);
    }
    struct call call = { .op = MSYNC, .fd = -1, .offset = (long)start, .flags = flags };
    PERFORM(call, syscall(SYS_msync, start, bytes, flags));
}

/* Calls on names. */

#define ON_NAME(at_, path_, op_, flags_, expression)                                                         \
    char whole[PATH];                                                                                        \
    pthread_mutex_lock(&lock);                                                                               \
    if (!absolute(at_, path_, whole)) {                                                                      \
        pthread_mutex_unlock(&lock);                                                                         \
        return (expression);                                                                                 \
    }                                                                                                        \
    struct call call = { .op = op_, .fd = -1, .flags = flags_, .path = whole };                              \
    PERFORM(call, expression)

int unlink(const char *path) { ON_NAME(AT_FDCWD, path, UNLINK, 0, syscall(SYS_unlinkat, AT_FDCWD, path, 0)); }
int unlinkat(int at, const char *path, int flags)
{
    ON_NAME(at, path, UNLINKAT, flags, syscall(SYS_unlinkat, at, path, flags));
}
int rmdir(const char *path) { ON_NAME(AT_FDCWD, path, RMDIR, 0, syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR)); }
int mkdir(const char *path, mode_t mode)
{
    ON_NAME(AT_FDCWD, path, MKDIR, 0, syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}
int mkdirat(int at, const char *path, mode_t mode)
{
    ON_NAME(at, path, MKDIRAT, 0, syscall(SYS_mkdirat, at, path, mode));
}

#define ON_TWO_NAMES(at_, path_, to_, other_, op_, flags_, expression)                                       \
    char whole[PATH], target[PATH];                                                                          \
    pthread_mutex_lock(&lock);                                                                               \
    int from_ours = absolute(at_, path_, whole), to_ours = absolute(to_, other_, target);                    \
    if (!from_ours && !to_ours) {                                                                            \
        pthread_mutex_unlock(&lock);                                                                         \
        return (expression);                                                                                 \
    }                                                                                                        \
    struct call call = { .op = op_, .fd = -1, .flags = flags_, .path = whole, .other = target };             \
    PERFORM(call, expression)

int rename(const char *old, const char *new)
{
    ON_TWO_NAMES(AT_FDCWD, old, AT_FDCWD, new, RENAME, 0, syscall(SYS_renameat2, AT_FDCWD, old, AT_FDCWD, new, 0));
}
int renameat(int from, const char *old, int to, const char *new)
{
    ON_TWO_NAMES(from, old, to, new, RENAMEAT, 0, syscall(SYS_renameat2, from, old, to, new, 0));
}
int renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
    ON_TWO_NAMES(from, old, to, new, RENAMEAT2, flags, syscall(SYS_renameat2, from, old, to, new, flags));
}
int link(const char *old, const char *new)
{
    ON_TWO_NAMES(AT_FDCWD, old, AT_FDCWD, new, LINK, 0, syscall(SYS_linkat, AT_FDCWD, old, AT_FDCWD, new, 0));
}
int linkat(int from, const char *old, int to, const char *new, int flags)
{
    ON_TWO_NAMES(from, old, to, new, LINKAT, flags, syscall(SYS_linkat, from, old, to, new, flags));
}

/* While the disk is full it says so to whoever asks. */

#define ASKS(name, type)                                                                                     \
    int name(const char *path, struct type *status)                                                          \
    {                                                                                                        \
        static int (*real)(const char *, struct type *);                                                     \
        if (!real)                                                                                           \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                                       \
        int result = real(path, status);                                                                     \
        if (!result && full_now)                                                                            \
            status->f_bavail = status->f_bfree = 0;                                                          \
        return result;                                                                                       \
    }
ASKS(statvfs, statvfs)
ASKS(statvfs64, statvfs64)
