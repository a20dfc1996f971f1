/* ceml_heartbeat.h - says to CEML through a named pipe how much work is done. Never blocks, never ends the program.
 *
 *     ceml_heartbeats hb;
 *     ceml_attach(&hb, "resnet", 2000);              // total steps; 0 where that is not known
 *     for (...) { work(); ceml_beat(&hb, 1); }       // or: ceml_beat_metric(&hb, 1, "loss", loss)
 *     ceml_close(&hb);
 *
 * One file for C99 and C++ on Linux (GCC, Clang), the C library only. The pipe is $CEML_PIPE, else
 * $CEML_RUNTIME_DIR/beats, else $XDG_RUNTIME_DIR/ceml/beats, else /run/ceml/beats. Work that could not be said, because
 * nobody listens or the pipe is full, is carried over to the next beat. Several threads may share one ceml_heartbeats;
 * a child made by fork is mute until it attaches a ceml_heartbeats of its own. Close it when no thread beats any more.
 * Strictly conforming modes (-std=c99) need -D_GNU_SOURCE.
 *
 * SIGPIPE: writing to a pipe that nobody reads any more would end the program. The signal is blocked around the write
 * and taken back if it was ours, so the program's own handling of SIGPIPE stays as it is.
 *
 * Part of CEML, Apache-2.0.
 */
#ifndef CEML_HEARTBEAT_H
#define CEML_HEARTBEAT_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CEML_MOST_WORK 1e9   /* steps in one line */
#define CEML_RETRY_S 1.0     /* between two attempts to open the pipe */
#define CEML_CLOSE_TRIES 20  /* of 5 ms each, to get the last work into a full pipe */

typedef struct {
    char path[2][256];   /* where the pipe may be */
    char head[96];       /* how each line begins */
    char join[320];      /* what introduces us */
    double work;         /* steps that are not said yet */
    unsigned long long late; /* those of threads that found another one writing, in millionths */
    double retry_s;
    unsigned long long number;
    pid_t pid;
    int fd;
    int joined;
    int closed;
    char lock;
} ceml_heartbeats;

static inline double ceml_now_s(long *micros, long long *seconds) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *seconds = (long long)now.tv_sec;
    *micros = now.tv_nsec / 1000;
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* A number as the line wants it: a point whatever the locale says, whole numbers without one. 0: it is none. */
static inline int ceml_text(char *text, size_t room, double number) {
    char raw[64];
    size_t at = 0;
    int in_number = 1;
    if (!(number - number == 0)) return 0; /* NaN and infinity */
    snprintf(raw, sizeof raw, number == (double)(long long)number ? "%.0f" : "%.9g", number);
    for (const char *c = raw; *c && at + 1 < room; c++) {
        int known = (*c >= '0' && *c <= '9') || *c == '-' || *c == '+' || *c == 'e';
        if (known) text[at++] = *c;
        else if (in_number) text[at++] = '.';
        in_number = known; /* a decimal sign of several bytes is one point */
    }
    text[at] = 0;
    return 1;
}

static inline void ceml_hang_up(ceml_heartbeats *hb) {
    if (hb->fd >= 0) close(hb->fd);
    hb->fd = -1;
    hb->joined = 0;
}

static inline int ceml_open(ceml_heartbeats *hb) {
    long micros;
    long long seconds;
    double now_s = ceml_now_s(&micros, &seconds);
    if (now_s < hb->retry_s) return 0;
    hb->retry_s = now_s + CEML_RETRY_S;
    for (int at = 0; at < 2; at++) {
        struct stat found;
        if (!hb->path[at][0]) continue;
        /* Never O_CREAT: that would leave a regular file where the pipe belongs. Never O_RDWR: then nobody would
         * tell us that the listener is gone. */
        int fd = open(hb->path[at], O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        if (fd < 0) continue;
        if (fstat(fd, &found) == 0 && S_ISFIFO(found.st_mode)) {
            hb->fd = fd;
            hb->joined = 0;
            return 1;
        }
        close(fd);
    }
    return 0;
}

/* One write, without the SIGPIPE that may come of it. sigprocmask acts on the calling thread alone on Linux, and
 * unlike pthread_sigmask needs no -pthread before glibc 2.32. */
static inline ssize_t ceml_write(int fd, const char *text, size_t size) {
    sigset_t pipe_only, before, pending;
    struct timespec at_once = {0, 0};
    ssize_t wrote;
    int error, was_pending;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    was_pending = sigismember(&pending, SIGPIPE);
    sigprocmask(SIG_BLOCK, &pipe_only, &before);
    wrote = write(fd, text, size);
    error = errno;
    if (wrote < 0 && error == EPIPE && !was_pending)
        while (sigtimedwait(&pipe_only, NULL, &at_once) < 0 && errno == EINTR) {}
    sigprocmask(SIG_SETMASK, &before, NULL);
    errno = error;
    return wrote;
}

/* Write a line, after a join where the other side has heard none yet. 0: it did not go out. */
static inline int ceml_say(ceml_heartbeats *hb, const char *line) {
    char text[1024];
    int size;
    if (hb->fd < 0 && !ceml_open(hb)) return 0;
    size = snprintf(text, sizeof text, "%s%s", hb->joined ? "" : hb->join, line);
    if (size <= 0 || size >= (int)sizeof text) return 0;
    if (ceml_write(hb->fd, text, (size_t)size) < 0) {
        if (errno != EAGAIN && errno != EINTR) ceml_hang_up(hb); /* nobody listens any more */
        return 0;
    }
    hb->joined = 1;
    return 1;
}

static inline void ceml_attach(ceml_heartbeats *hb, const char *app, double total_work) {
    unsigned char random[4] = {0, 0, 0, 0};
    char name[65], total[80] = "";
    const char *named = getenv("CEML_PIPE"), *directory = getenv("CEML_RUNTIME_DIR");
    const char *session = getenv("XDG_RUNTIME_DIR");
    size_t at = 0;
    long micros;
    long long seconds;
    memset(hb, 0, sizeof *hb);
    hb->fd = -1;
    hb->pid = getpid();
    for (; app && app[at] && at < 64; at++) {
        char c = app[at];
        int known = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                    c == '_' || c == '-';
        name[at] = known ? c : '_';
    }
    name[at] = 0;
    if (!at) strcpy(name, "app");
    int source = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    if (source < 0 || read(source, random, sizeof random) != (ssize_t)sizeof random) {
        ceml_now_s(&micros, &seconds);
        random[0] = (unsigned char)hb->pid, random[1] = (unsigned char)(hb->pid >> 8);
        random[2] = (unsigned char)micros, random[3] = (unsigned char)(micros >> 8);
    }
    if (source >= 0) close(source);
    if (named && *named) {
        if (strlen(named) < sizeof hb->path[0]) strcpy(hb->path[0], named);
    } else if (directory && *directory) {
        if (strlen(directory) + 7 < sizeof hb->path[0])
            snprintf(hb->path[0], sizeof hb->path[0], "%s/beats", directory);
    } else {
        if (session && *session && strlen(session) + 12 < sizeof hb->path[0])
            snprintf(hb->path[0], sizeof hb->path[0], "%s/ceml/beats", session);
        strcpy(hb->path[1], "/run/ceml/beats");
    }
    /* Every line starts with a newline too: it ends what another writer may have left unfinished. */
    snprintf(hb->head, sizeof hb->head, "\napp=%s src=%02x%02x%02x%02x ", name, random[0], random[1], random[2],
             random[3]);
    if (total_work > 0 && total_work <= 1e18) {
        char number[64];
        if (ceml_text(number, sizeof number, total_work)) snprintf(total, sizeof total, " total_work=%s", number);
    }
    snprintf(hb->join, sizeof hb->join, "%sevent=join pid=%ld%s\n", hb->head, (long)hb->pid, total);
    ceml_say(hb, "");
}

static inline int ceml_beat_line(ceml_heartbeats *hb, char *line, size_t room, double work, const char *metric,
                                 double value) {
    char amount[64], number[64] = "";
    const char *space = "", *equals = "";
    long micros;
    long long seconds;
    ceml_now_s(&micros, &seconds);
    if (!ceml_text(amount, sizeof amount, work)) return 0;
    if (metric && strlen(metric) <= 64 && ceml_text(number, sizeof number, value)) space = " ", equals = "=";
    else metric = "";
    return snprintf(line, room, "%sbeat=%llu t=%lld.%06ld work=%s%s%s%s%s\n", hb->head, hb->number, seconds, micros,
                    amount, space, metric, equals, number) < (int)room;
}

/* Say that `work` steps were completed since the beat before, and one metric: a name of letters, digits, `_` and `.` */
static inline void ceml_beat_metric(ceml_heartbeats *hb, double work, const char *metric, double value) {
    char line[320];
    double all;
    if (hb->closed || getpid() != hb->pid || !(work > 0)) return;
    if (work > 1e12) work = 1e12;
    __atomic_fetch_add(&hb->late, (unsigned long long)(work * 1e6 + 0.5), __ATOMIC_RELAXED);
    if (__atomic_test_and_set(&hb->lock, __ATOMIC_ACQUIRE)) return; /* nobody ever waits, not in a signal handler */
    hb->work += 1e-6 * (double)__atomic_exchange_n(&hb->late, 0, __ATOMIC_RELAXED);
    hb->number++;
    all = hb->work < CEML_MOST_WORK ? hb->work : CEML_MOST_WORK;
    if (ceml_beat_line(hb, line, sizeof line, all, metric, value) && ceml_say(hb, line)) hb->work -= all;
    __atomic_clear(&hb->lock, __ATOMIC_RELEASE);
}

/* Say that `work` steps were completed since the beat before. */
static inline void ceml_beat(ceml_heartbeats *hb, double work) { ceml_beat_metric(hb, work, NULL, 0); }

/* Say the work that is still unsaid, and goodbye. Only here a full pipe is waited for, a tenth of a second at most. */
static inline void ceml_close(ceml_heartbeats *hb) {
    char line[512];
    if (hb->closed || getpid() != hb->pid) return;
    hb->closed = 1;
    hb->retry_s = 0;
    hb->work += 1e-6 * (double)__atomic_exchange_n(&hb->late, 0, __ATOMIC_RELAXED);
    for (int tries = 0; tries < CEML_CLOSE_TRIES; tries++) {
        double work = hb->work < CEML_MOST_WORK ? hb->work : CEML_MOST_WORK;
        size_t size = 0;
        hb->number++;
        line[0] = 0;
        if (work > 0 && ceml_beat_line(hb, line, sizeof line, work, NULL, 0)) size = strlen(line);
        if (work == hb->work) snprintf(line + size, sizeof line - size, "%sevent=leave\n", hb->head);
        if (ceml_say(hb, line)) {
            hb->work -= work;
            if (!(hb->work > 0)) break;
        } else if (hb->fd < 0) {
            break;
        } else {
            struct timespec pause = {0, 5000000};
            nanosleep(&pause, NULL);
        }
    }
    ceml_hang_up(hb);
}

#endif
