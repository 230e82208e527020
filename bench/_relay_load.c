/* The load for bench/relay.py: clients and the services that they reach, in one epoll loop on one core.

   Prints the ports of its three services as JSON, then obeys one command a line on stdin and answers each with a
   line of JSON:

     conns PORT WIDTH SECONDS  connect, send 64 bytes, wait for 64, close; WIDTH at a time
     get PORT WIDTH SECONDS    read a stream that does not end, over WIDTH connections
     hold PORT COUNT           open connections, one exchange on each, and keep them until "drop"
     drop                      close them
     cameras PORT COUNT SECONDS  read COUNT streams of 4 Mbit/s, 25 pictures a second each

   PORT is a relay's, or a service's own for comparison. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { ECHO, SOURCE, CAMERA, SERVICES };
enum kind { LISTENER, SERVED, CLIENT, TICK };
enum { MESSAGE = 64, CHUNK = 256 * 1024, PICTURE = 20000, TICKS_PER_PICTURE = 10, MAX_EVENTS = 256 };

struct end {
    enum kind kind;
    int service; /* of LISTENER and SERVED */
    int fd;
    int asked; /* of CLIENT: its request is sent */
    int held;
    size_t owed; /* of a camera: bytes of its picture that are still to be sent */
    int64_t began;
    struct end *next, *previous; /* of clients or cameras; or the next that is to be freed */
};

static int poll_fd;
static char buffer[CHUNK];
static struct end *cameras, *clients;
static struct end *dead; /* freed after the batch: a later event of it may still name it */
static int64_t moved, answered, failed, opened;
static int64_t *taken;
static size_t taken_room;
/* the command at hand */
static char command[16];
static int port, width, in_flight, running;

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(struct end *e, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = e};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, e->fd, &event)) die("epoll_ctl");
}

static void rewatch(struct end *e, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = e};
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, e->fd, &event);
}

static struct end *make(enum kind kind, int service, int fd) {
    struct end *e = calloc(1, sizeof *e);
    e->kind = kind;
    e->service = service;
    e->fd = fd;
    return e;
}

static void drop(struct end *e) {
    if (e->fd < 0) return;
    close(e->fd);
    e->fd = -1;
    if (e->kind == CLIENT) {
        if (e->previous) e->previous->next = e->next;
        else clients = e->next;
        if (e->next) e->next->previous = e->previous;
    }
    if (e->kind == SERVED && e->service == CAMERA) return; /* stays in the list, which frees it */
    e->next = dead;
    dead = e;
}

static void set(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); }

static int listen_on(int service) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(fd, (void *)&address, length) || listen(fd, 4096)) die("listen");
    getsockname(fd, (void *)&address, &length);
    watch(make(LISTENER, service, fd), EPOLLIN);
    return ntohs(address.sin_port);
}

static void accept_all(struct end *listener) {
    for (int fd; (fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        struct end *e = make(SERVED, listener->service, fd);
        set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
        watch(e, e->service == SOURCE ? EPOLLIN | EPOLLOUT : EPOLLIN);
        if (e->service == CAMERA) {
            e->next = cameras;
            cameras = e;
        }
    }
}

static void send_picture(struct end *e) {
    while (e->owed) {
        ssize_t n = send(e->fd, buffer, e->owed, MSG_NOSIGNAL);
        if (n < 0) break;
        e->owed -= n;
    }
}

static void tick(struct end *e) {
    static int64_t count;
    uint64_t times = 0;
    if (read(e->fd, &times, sizeof times) < 0) return;
    while (times--) {
        int place = 0;
        count++;
        for (struct end **at = &cameras; *at;) {
            struct end *camera = *at;
            if (camera->fd < 0) {
                *at = camera->next;
                free(camera);
                continue;
            }
            if (place++ % TICKS_PER_PICTURE == count % TICKS_PER_PICTURE) {
                camera->owed += PICTURE;
                send_picture(camera);
            }
            at = &camera->next;
        }
    }
}

static void serve(struct end *e, uint32_t events) {
    if (events & EPOLLIN) {
        ssize_t n = recv(e->fd, buffer, MESSAGE, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            drop(e);
            return;
        }
        if (n > 0 && e->service == ECHO) send(e->fd, buffer, MESSAGE, MSG_NOSIGNAL);
    } else if (events & (EPOLLERR | EPOLLHUP)) {
        drop(e);
        return;
    }
    if (events & EPOLLOUT) {
        ssize_t n = send(e->fd, buffer, CHUNK, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) drop(e);
    }
}

static void connect_one(void) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) die("socket");
    struct end *e = make(CLIENT, 0, fd);
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    e->began = now();
    e->next = clients;
    if (clients) clients->previous = e;
    clients = e;
    in_flight++;
    if (connect(fd, (void *)&address, sizeof address) && errno != EINPROGRESS) {
        failed++;
        in_flight--;
        drop(e);
        return;
    }
    watch(e, EPOLLIN | EPOLLOUT);
}

static void done(struct end *e, int ok) {
    in_flight--;
    if (!ok) {
        failed++;
    } else if (running) {
        if ((size_t)answered == taken_room) {
            taken_room = taken_room ? taken_room * 2 : 1 << 16;
            taken = realloc(taken, taken_room * sizeof *taken);
        }
        taken[answered++] = now() - e->began;
    }
    drop(e);
    if (running && !strcmp(command, "conns")) connect_one();
}

static void client(struct end *e, uint32_t events) {
    if (!e->asked && events & EPOLLOUT) {
        if (!strcmp(command, "cameras") || !strcmp(command, "get")) {
            set(e->fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        } else if (send(e->fd, buffer, MESSAGE, MSG_NOSIGNAL) != MESSAGE) {
            done(e, 0);
            return;
        }
        e->asked = 1;
        rewatch(e, EPOLLIN);
    }
    if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP))) return;
    ssize_t n = recv(e->fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        if (e->held) {
            drop(e);
            failed++;
        } else {
            done(e, 0);
        }
        return;
    }
    moved += n;
    if (!strcmp(command, "conns")) {
        done(e, 1);
    } else if (!strcmp(command, "hold") && !e->held) {
        e->held = 1;
        opened++;
        in_flight--;
    }
}

static void turn(int timeout) {
    struct epoll_event events[MAX_EVENTS];
    int count = epoll_wait(poll_fd, events, MAX_EVENTS, timeout);
    for (int i = 0; i < count; i++) {
        struct end *e = events[i].data.ptr;
        if (e->fd < 0) continue;
        switch (e->kind) {
        case LISTENER: accept_all(e); break;
        case SERVED: serve(e, events[i].events); break;
        case CLIENT: client(e, events[i].events); break;
        case TICK: tick(e); break;
        }
    }
    while (dead) {
        struct end *e = dead;
        dead = e->next;
        free(e);
    }
}

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double percentile(double share) {
    return answered ? taken[(size_t)((answered - 1) * share)] / 1000.0 : 0;
}

static void measure(double seconds) {
    moved = answered = failed = 0;
    running = 1;
    for (int i = 0; i < width; i++) connect_one();
    int64_t warm = now() + (int64_t)(strcmp(command, "conns") ? 3e8 : 0);
    while (now() < warm) turn(10);
    moved = 0;
    int64_t began = now(), end = began + (int64_t)(seconds * 1e9);
    while (now() < end) turn(10);
    double took = (now() - began) / 1e9;
    running = 0;
    while (clients) drop(clients);
    in_flight = 0;
    int64_t bytes = moved, count = answered;
    qsort(taken, answered, sizeof *taken, by_size);
    printf("{\"seconds\": %.6f, \"bytes\": %lld, \"count\": %lld, \"failed\": %lld, \"p50_us\": %.1f, \"p99_us\": %.1f}\n",
           took, (long long)bytes, (long long)count, (long long)failed, percentile(0.5), percentile(0.99));
    fflush(stdout);
}

int main(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poll_fd = epoll_create1(0);
    int echo = listen_on(ECHO), source = listen_on(SOURCE), camera = listen_on(CAMERA);
    struct itimerspec every = {{0, 4000000}, {0, 4000000}};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    timerfd_settime(timer, 0, &every, NULL);
    watch(make(TICK, 0, timer), EPOLLIN);
    printf("{\"echo\": %d, \"source\": %d, \"camera\": %d}\n", echo, source, camera);
    fflush(stdout);
    /* Commands are read between turns, so that the services go on while the bench does something else. */
    char line[128];
    size_t have = 0;
    for (;;) {
        turn(5);
        struct timeval none = {0, 0};
        fd_set set_;
        FD_ZERO(&set_);
        FD_SET(0, &set_);
        if (select(1, &set_, NULL, NULL, &none) <= 0) continue;
        ssize_t n = read(0, line + have, sizeof line - 1 - have);
        if (n <= 0) return 0;
        have += n;
        line[have] = 0;
        if (!strchr(line, '\n')) continue;
        have = 0;
        double seconds = 0;
        port = width = 0;
        sscanf(line, "%15s %d %d %lf", command, &port, &width, &seconds);
        if (!strcmp(command, "drop")) {
            while (clients) drop(clients);
            printf("{\"failed\": %lld}\n", (long long)failed);
            fflush(stdout);
        } else if (!strcmp(command, "hold")) {
            int64_t wanted = width, until = now() + 60000000000LL;
            opened = failed = 0;
            in_flight = 0;
            int64_t begun = 0;
            while (opened + failed < wanted && now() < until) {
                while (begun < wanted && in_flight < 32) {
                    connect_one();
                    begun++;
                }
                turn(10);
            }
            printf("{\"count\": %lld, \"failed\": %lld}\n", (long long)opened, (long long)failed);
            fflush(stdout);
        } else {
            measure(seconds);
        }
    }
}
