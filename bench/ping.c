/* The floor: a 64-byte round trip client - broker - worker, one ROUTER, no Python.
 *
 * usage: ping LIBZMQ DIRECTORY ROUNDS WARMUP                       over ipc
 *        ping LIBZMQ ADDRESS ROUNDS WARMUP CLIENT BROKER WORKER    over TCP with CURVE, each in a network namespace
 *                                                                  (a file such as /run/netns/node1); needs root
 * Prints one JSON object with percentiles in microseconds. libzmq is the file named by the first argument, the
 * one that comes with pyzmq: it has no header, so the few functions in use are declared here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { DEALER = 5, ROUTER = 6, ROUTING_ID = 5, LINGER = 17, RCVTIMEO = 27, SNDMORE = 2, SIZE = 64 };
enum { CURVE_SERVER = 47, CURVE_PUBLICKEY = 48, CURVE_SECRETKEY = 49, CURVE_SERVERKEY = 50, KEY = 41 };

static void *(*ctx_new)(void);
static int (*ctx_term)(void *);
static void *(*open_socket)(void *, int);
static int (*close_socket)(void *);
static int (*set_option)(void *, int, const void *, size_t);
static int (*bind_to)(void *, const char *);
static int (*connect_to)(void *, const char *);
static int (*send_frame)(void *, const void *, size_t, int);
static int (*recv_frame)(void *, void *, size_t, int);
static int (*make_keys)(char *, char *);

static char address[108], server_public[KEY], server_secret[KEY], public_key[KEY], secret_key[KEY];
static int curve;
static const char *broker_net, *worker_net;

static void fail(const char *what)
{
    fprintf(stderr, "ping: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *symbol(void *library, const char *name)
{
    void *found = dlsym(library, name);
    if (!found) {
        fprintf(stderr, "ping: %s\n", dlerror());
        exit(1);
    }
    return found;
}

static void load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW);
    if (!library) {
        fprintf(stderr, "ping: %s\n", dlerror());
        exit(1);
    }
    *(void **)&ctx_new = symbol(library, "zmq_ctx_new");
    *(void **)&ctx_term = symbol(library, "zmq_ctx_term");
    *(void **)&open_socket = symbol(library, "zmq_socket");
    *(void **)&close_socket = symbol(library, "zmq_close");
    *(void **)&set_option = symbol(library, "zmq_setsockopt");
    *(void **)&bind_to = symbol(library, "zmq_bind");
    *(void **)&connect_to = symbol(library, "zmq_connect");
    *(void **)&send_frame = symbol(library, "zmq_send");
    *(void **)&recv_frame = symbol(library, "zmq_recv");
    *(void **)&make_keys = symbol(library, "zmq_curve_keypair");
}

static void enter(const char *net)
{
    int fd = net ? open(net, O_RDONLY | O_CLOEXEC) : -1;
    if (net && (fd < 0 || setns(fd, CLONE_NEWNET)))
        fail(net);
}

static int set_keys(void *socket, const char *public, const char *secret)
{
    return set_option(socket, CURVE_PUBLICKEY, public, KEY) || set_option(socket, CURVE_SECRETKEY, secret, KEY);
}

static void *dealer(void *context, char identity)
{
    int zero = 0;
    void *socket = open_socket(context, DEALER);
    if (!socket || set_option(socket, ROUTING_ID, &identity, 1) || set_option(socket, LINGER, &zero, sizeof zero)
        || (curve && (set_keys(socket, public_key, secret_key)
                      || set_option(socket, CURVE_SERVERKEY, server_public, KEY)))
        || connect_to(socket, address))
        fail("dealer");
    return socket;
}

/* The first byte of a message names its receiver, the second what it is: p(ing), h(ello), q(uit). */
static void run_broker(void)
{
    char identity[8], message[SIZE];
    int zero = 0, one = 1;
    enter(broker_net);
    void *context = ctx_new();
    void *socket = open_socket(context, ROUTER);
    if (!socket || set_option(socket, LINGER, &zero, sizeof zero)
        || (curve && (set_option(socket, CURVE_SERVER, &one, sizeof one)
                      || set_keys(socket, server_public, server_secret)))
        || bind_to(socket, address))
        fail("broker");
    for (;;) {
        if (recv_frame(socket, identity, sizeof identity, 0) < 0 || recv_frame(socket, message, SIZE, 0) < 0) {
            if (errno == EINTR)
                continue;
            fail("broker receive");
        }
        if (message[1] == 'q')
            _exit(0);
        if (message[1] == 'h')
            continue;
        if (send_frame(socket, message, 1, SNDMORE) < 0 || send_frame(socket, message, SIZE, 0) < 0)
            fail("broker send");
    }
}

static void run_worker(void)
{
    char message[SIZE] = "Bh";
    enter(worker_net);
    void *socket = dealer(ctx_new(), 'W');
    send_frame(socket, message, SIZE, 0);
    for (;;) {
        if (recv_frame(socket, message, SIZE, 0) < 0) {
            if (errno == EINTR)
                continue;
            fail("worker receive");
        }
        message[0] = 'C';
        if (send_frame(socket, message, SIZE, 0) < 0)
            fail("worker send");
    }
}

static pid_t start(void (*run)(void))
{
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent)
            run();
        _exit(1);
    }
    return child;
}

static int64_t now_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

static int64_t trip(void *socket)
{
    char message[SIZE] = "Wp";
    int64_t begin = now_ns();
    if (send_frame(socket, message, SIZE, 0) < 0)
        fail("client send");
    if (recv_frame(socket, message, SIZE, 0) < 0)
        return -1;
    return now_ns() - begin;
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double percentile(const int64_t *sorted, long n, double percent)
{
    long rank = (long)((double)n * percent / 100);
    return (double)sorted[rank < n ? rank : n - 1] / 1000;
}

int main(int argc, char **argv)
{
    if (argc != 5 && argc != 8) {
        fprintf(stderr, "usage: ping LIBZMQ DIRECTORY|ADDRESS ROUNDS WARMUP [CLIENT BROKER WORKER]\n");
        return 2;
    }
    long rounds = atol(argv[3]), warmup = atol(argv[4]);
    curve = argc == 8;
    if (rounds < 1
        || snprintf(address, sizeof address, curve ? "%s" : "ipc://%s/ping", argv[2]) >= (int)sizeof address) {
        fprintf(stderr, "ping: no rounds, or a path too long for a socket\n");
        return 2;
    }
    load(argv[1]);
    if (curve) {
        make_keys(server_public, server_secret);
        make_keys(public_key, secret_key);
        broker_net = argv[6];
        worker_net = argv[7];
    }
    pid_t broker = start(run_broker), worker = start(run_worker);
    enter(curve ? argv[5] : NULL);
    void *context = ctx_new();
    void *socket = dealer(context, 'C');
    int patience = 100, forever = -1, tries = 0;
    set_option(socket, RCVTIMEO, &patience, sizeof patience);
    /* A ROUTER drops what is for a worker that it has not seen yet: ask again until it answers. */
    while (trip(socket) < 0)
        if (++tries == 100)
            fail("no answer");
    /* Late answers to earlier tries would be taken for the next ones. */
    char spare[SIZE];
    while (tries && recv_frame(socket, spare, SIZE, 0) >= 0)
        ;
    set_option(socket, RCVTIMEO, &forever, sizeof forever);
    for (long i = 0; i < warmup; i++)
        trip(socket);
    int64_t *sample = calloc((size_t)rounds, sizeof *sample);
    if (!sample)
        fail("memory");
    for (long i = 0; i < rounds; i++)
        sample[i] = trip(socket);
    qsort(sample, (size_t)rounds, sizeof *sample, by_size);
    printf("{\"n\": %ld, \"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"p99.9\": %.3f, \"unit\": \"us\"}\n", rounds,
           percentile(sample, rounds, 50), percentile(sample, rounds, 90), percentile(sample, rounds, 99),
           percentile(sample, rounds, 99.9));
    kill(worker, SIGKILL);
    kill(broker, SIGKILL);
    waitpid(worker, NULL, 0);
    waitpid(broker, NULL, 0);
    close_socket(socket);
    ctx_term(context);
    return 0;
}
