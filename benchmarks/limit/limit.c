/*
 * limit: the floor. A relay that reads nothing, chooses nothing, logs nothing and times nothing: every connection to
 * PORT is joined to 127.0.0.1:BACKEND. It does only what no relay between two sockets can leave out, so that the cost
 * of a real balancer can be told as a ratio to it.
 *
 *     limit PORT BACKEND [THREADS]
 *
 * Each thread has its own SO_REUSEPORT listener and its own edge-triggered epoll. Small messages are copied; a read
 * that fills the buffer makes its way a bulk one, which splices through a borrowed pipe of 1 MiB. Both descriptors are
 * registered once. Half-closes travel; an error ends both sides. It is for measuring, not for use: no limits, no
 * timeouts, no care for EMFILE beyond not looping on it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { COPY = 16 << 10, PIPE = 1 << 20, EVENTS = 256, ACCEPTS = 64, BUDGET = 16, PIPES = 24, PAIRS = 256 };

struct pair;

/* One socket, and the way of bytes that begins at it. */
struct side {
	struct pair *pair;
	struct side *other;
	char *left;           /* copied but not yet written to other, or NULL */
	int left_at, left_len;
	int pipe[2];          /* borrowed while bytes are in it */
	int in_pipe;
	int fd;
	unsigned char readable, writable, ended, finished, bulk, hup;
};

struct pair {
	struct side s[2];     /* client, backend */
	struct pair *next;    /* in the list of the dead, or of the free */
	int dead;
};

struct thread {
	int ep, listener;
	struct pair *dead, *spare;
	int spares, pipes;
	int pool[PIPES][2];
	char buf[COPY];
};

static struct sockaddr_in backend;
static int port;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int borrow(struct thread *t, struct side *s)
{
	if (s->pipe[0] >= 0)
		return 1;
	if (t->pipes > 0) {
		t->pipes--;
		memcpy(s->pipe, t->pool[t->pipes], sizeof s->pipe);
		return 1;
	}
	if (pipe2(s->pipe, O_NONBLOCK | O_CLOEXEC) < 0) {
		s->pipe[0] = -1;
		return 0;
	}
	fcntl(s->pipe[1], F_SETPIPE_SZ, PIPE);
	return 1;
}

static void give_back(struct thread *t, struct side *s)
{
	if (s->pipe[0] < 0)
		return;
	if (s->in_pipe == 0 && t->pipes < PIPES) {
		memcpy(t->pool[t->pipes++], s->pipe, sizeof s->pipe);
	} else {
		close(s->pipe[0]);
		close(s->pipe[1]);
	}
	s->pipe[0] = -1;
	s->in_pipe = 0;
}

/* Ends both sides. The memory lives till the end of the batch: later events of it may still name the pair. */
static void end(struct thread *t, struct pair *p)
{
	if (p->dead)
		return;
	for (int i = 0; i < 2; i++) {
		give_back(t, &p->s[i]);
		free(p->s[i].left);
		close(p->s[i].fd);
	}
	p->dead = 1;
	p->next = t->dead;
	t->dead = p;
}

/* Writes what an earlier turn could not. 0: the receiver is full still; -1: it is gone. */
static int flush(struct thread *t, struct side *s)
{
	struct side *d = s->other;
	while (s->left) {
		ssize_t n = write(d->fd, s->left + s->left_at, s->left_len);
		if (n < 0 && errno == EAGAIN)
			return d->writable = 0;
		if (n < 0)
			return -1;
		s->left_at += n;
		if ((s->left_len -= n) == 0) {
			free(s->left);
			s->left = NULL;
		}
	}
	while (s->in_pipe > 0) {
		ssize_t n = splice(s->pipe[0], NULL, d->fd, NULL, s->in_pipe, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n < 0 && errno == EAGAIN)
			return d->writable = 0;
		if (n <= 0)
			return -1;
		s->in_pipe -= n;
	}
	(void)t;
	return 1;
}

/* Takes once from s; 0: nothing there, -1: broken. An end of stream is noted in s->ended. */
static int take(struct thread *t, struct side *s)
{
	struct side *d = s->other;
	ssize_t n;

	if (s->bulk && borrow(t, s)) {
		n = splice(s->fd, NULL, s->pipe[1], NULL, PIPE, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n > 0)
			s->in_pipe = n;
	} else {
		n = read(s->fd, t->buf, COPY);
		if (n > 0) {
			ssize_t w = write(d->fd, t->buf, n);
			if (w < 0 && errno != EAGAIN)
				return -1;
			if (w < 0)
				w = 0;
			if (w < n) {
				d->writable = 0;
				s->left_at = 0;
				s->left_len = n - w;
				s->left = malloc(n - w);
				memcpy(s->left, t->buf + w, n - w);
			}
			s->bulk = n == COPY;
		}
	}
	if (n < 0 && errno == EAGAIN)
		return s->readable = 0;
	if (n < 0)
		return -1;
	if (n == 0)
		s->ended = 1;
	else if (n < COPY && !s->bulk && !s->hup)
		s->readable = 0; /* a short read has emptied the queue: the next byte is a new edge */
	return 1;
}

/* Moves bytes from s to the other side till one of them has to wait. */
static int pump(struct thread *t, struct side *s)
{
	struct side *d = s->other;
	int budget = BUDGET;

	for (;;) {
		if (d->writable && (s->left || s->in_pipe)) {
			int r = flush(t, s);
			if (r < 0)
				return -1;
		}
		if (s->left || s->in_pipe || !d->writable)
			return 0;
		if (s->ended) {
			if (!s->finished && !d->finished)
				shutdown(d->fd, SHUT_WR); /* where both ended, close says it */
			s->finished = 1;
			break;
		}
		if (!s->readable)
			break;
		if (budget-- == 0) { /* others wait: ask for the same edge once more */
			struct epoll_event e = { EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, { .ptr = s } };
			epoll_ctl(t->ep, EPOLL_CTL_MOD, s->fd, &e);
			break;
		}
		if (take(t, s) < 0)
			return -1;
	}
	give_back(t, s);
	return 0;
}

static int add(struct thread *t, struct side *s)
{
	struct epoll_event e = { EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, { .ptr = s } };
	return epoll_ctl(t->ep, EPOLL_CTL_ADD, s->fd, &e);
}

static void join(struct thread *t, int client)
{
	struct pair *p = t->spare;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0) {
		close(client);
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (connect(fd, (struct sockaddr *)&backend, sizeof backend) < 0 && errno != EINPROGRESS) {
		close(client);
		close(fd);
		return;
	}
	if (p) {
		t->spare = p->next;
		t->spares--;
	} else if (!(p = malloc(sizeof *p))) {
		die("malloc");
	}
	memset(p, 0, sizeof *p);
	for (int i = 0; i < 2; i++) {
		p->s[i].pair = p;
		p->s[i].other = &p->s[1 - i];
		p->s[i].pipe[0] = -1;
	}
	p->s[0].fd = client;
	p->s[1].fd = fd;
	if (add(t, &p->s[0]) < 0 || add(t, &p->s[1]) < 0)
		end(t, p);
}

static void welcome(struct thread *t)
{
	for (int i = 0; i < ACCEPTS; i++) {
		int fd = accept4(t->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		join(t, fd); /* TCP_NODELAY is inherited */
	}
}

static void serve(struct thread *t, struct side *s, unsigned events)
{
	struct pair *p = s->pair;

	if (p->dead)
		return;
	if (events & EPOLLERR) {
		end(t, p);
		return;
	}
	if (events & EPOLLRDHUP)
		s->hup = 1;
	if (events & (EPOLLIN | EPOLLRDHUP))
		s->readable = 1;
	int opened = (events & EPOLLOUT) && !s->writable;
	if (events & EPOLLOUT)
		s->writable = 1;
	if ((events & (EPOLLIN | EPOLLRDHUP) && pump(t, s) < 0) || (opened && pump(t, s->other) < 0) ||
	    (p->s[0].finished && p->s[1].finished))
		end(t, p);
}

static void bury(struct thread *t)
{
	while (t->dead) {
		struct pair *p = t->dead;
		t->dead = p->next;
		if (t->spares < PAIRS) {
			p->next = t->spare;
			t->spare = p;
			t->spares++;
		} else {
			free(p);
		}
	}
}

static void *run(void *arg)
{
	struct thread *t = arg;
	struct epoll_event e[EVENTS];

	for (;;) {
		int n = epoll_wait(t->ep, e, EVENTS, -1);
		for (int i = 0; i < n; i++)
			if (e[i].data.ptr == NULL)
				welcome(t);
			else
				serve(t, e[i].data.ptr, e[i].events);
		bury(t);
	}
	return NULL;
}

static struct thread *start(void)
{
	struct thread *t = calloc(1, sizeof *t);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct epoll_event e = { EPOLLIN, { .ptr = NULL } };
	int one = 1;

	if (!t || (t->ep = epoll_create1(EPOLL_CLOEXEC)) < 0)
		die("epoll_create1");
	if ((t->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) < 0)
		die("socket");
	setsockopt(t->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(t->listener, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
	setsockopt(t->listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (bind(t->listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(t->listener, 65535) < 0)
		die("listen");
	if (epoll_ctl(t->ep, EPOLL_CTL_ADD, t->listener, &e) < 0)
		die("epoll_ctl");
	return t;
}

int main(int argc, char **argv)
{
	int threads = argc > 3 ? atoi(argv[3]) : 2;

	if (argc < 3 || threads < 1) {
		fprintf(stderr, "usage: limit PORT BACKEND [THREADS]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	port = atoi(argv[1]);
	backend.sin_family = AF_INET;
	backend.sin_port = htons(atoi(argv[2]));
	backend.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (int i = 1; i < threads; i++) {
		pthread_t id;
		if (pthread_create(&id, NULL, run, start()) != 0)
			die("pthread_create");
	}
	run(start());
	return 0;
}
