/*
 * test_facts_tables.c - descriptor tables of a thread's own, and descriptors that are sent
 * from one to another. A thread's assertions are made by the main one, for criterion's own
 * descriptors are not in every table.
 */
#include "facts.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

/* A second thread with a table of its own, which does what it is told: both meet at a
 * barrier before and after. */
struct second {
	pthread_t thread;
	pthread_barrier_t barrier;
	void (*work)(struct second *second);
	int listen_fd, number, pair[2], result, flags;
	bool unshared;
};

static void *second_main(void *arg)
{
	struct second *s = arg;
	s->unshared = unshare(CLONE_FILES) == 0;
	(void)pthread_barrier_wait(&s->barrier);
	(void)pthread_barrier_wait(&s->barrier);
	s->work(s);
	(void)pthread_barrier_wait(&s->barrier);
	(void)pthread_barrier_wait(&s->barrier);
	return NULL;
}

/* Returns when it has its table. */
static void second_start(struct second *s, void (*work)(struct second *))
{
	s->work = work;
	cr_assert_eq(pthread_barrier_init(&s->barrier, NULL, 2), 0);
	cr_assert_eq(pthread_create(&s->thread, NULL, second_main, s), 0);
	(void)pthread_barrier_wait(&s->barrier);
	FACT(s->unshared, "unshare(CLONE_FILES) needs no privilege");
}

/* Lets it work and waits until it has. Its table stays until second_end. */
static void second_work(struct second *s)
{
	(void)pthread_barrier_wait(&s->barrier);
	(void)pthread_barrier_wait(&s->barrier);
}

static void second_end(struct second *s)
{
	(void)pthread_barrier_wait(&s->barrier);
	(void)pthread_join(s->thread, NULL);
	(void)pthread_barrier_destroy(&s->barrier);
}

static void close_and_open(struct second *s)
{
	(void)close(s->number);
	s->result = open("/dev/zero", O_RDONLY | O_CLOEXEC);
}

Test(tables, a_private_table_is_a_threads_own)
{
	static const char fact[] = "after unshare(CLONE_FILES) numbers are a thread's "
	                           "own: what it closes and "
	                           "opens no other thread sees";
	struct second s = {.number = open("/dev/null", O_RDONLY | O_CLOEXEC)};
	struct stat null, now;
	cr_assert_eq(fstat(s.number, &null), 0);
	second_start(&s, close_and_open);
	second_work(&s);
	FACT(s.result == s.number, fact);
	FACT(fstat(s.number, &now) == 0 && now.st_rdev == null.st_rdev, fact);
	second_end(&s);
	(void)close(s.number);
}

static void count_free(struct second *s)
{
	(void)close_range(3, ~0U, 0);
	s->result = 0;
	while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0)
		s->result++;
	s->flags = errno;
}

Test(tables, each_table_has_the_whole_limit)
{
	static const char fact[] = "EMFILE compares numbers with RLIMIT_NOFILE in each "
	                           "table: a table a worker "
	                           "multiplies the budget";
	struct second s = {0};
	struct fact_full full;
	second_start(&s, count_free);
	fact_fill(&full);
	second_work(&s);
	FACT(s.result == FACT_LIMIT - 3 && s.flags == EMFILE, fact);
	FACT(open("/dev/null", O_RDONLY | O_CLOEXEC) < 0 && errno == EMFILE, fact);
	second_end(&s);
	fact_free(&full);
}

Test(tables, emfile_looks_at_the_lowest_free_number_not_at_the_count)
{
	static const char fact[] = "EMFILE is a matter of the lowest free number: a "
	                           "lowered limit leaves high "
	                           "numbers open, and a low one that is free can be used";
	struct rlimit before;
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	int low = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int high = fcntl(low, F_DUPFD_CLOEXEC, 90);
	struct rlimit limit = {(rlim_t)low + 1, before.rlim_max};
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	FACT(fcntl(high, F_GETFD) >= 0, fact);
	FACT(open("/dev/null", O_RDONLY | O_CLOEXEC) < 0 && errno == EMFILE, fact);
	(void)close(low);
	FACT(open("/dev/null", O_RDONLY | O_CLOEXEC) == low, fact);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	(void)close(low);
	(void)close(high);
}

static void do_nothing(struct second *s)
{
	s->result = 0;
}

Test(tables, close_range_with_unshare_leaves_the_other_threads_theirs)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct second s = {.number = fd};
	second_start(&s, do_nothing);
	FACT(close_range((unsigned)fd, (unsigned)fd, CLOSE_RANGE_UNSHARE) == 0,
	        "close_range(CLOSE_RANGE_UNSHARE) unshares and closes");
	FACT(fcntl(fd, F_GETFD) < 0, "close_range closes");
	second_work(&s);
	second_end(&s);
}

static void close_listener(struct second *s)
{
	s->result = close(s->listen_fd);
}

static void shut_listener(struct second *s)
{
	s->result = shutdown(s->listen_fd, SHUT_RD);
}

Test(tables, a_listener_closed_in_one_table_listens_on_in_another)
{
	static const char fact[] = "a listener that is closed in one table keeps "
	                           "listening while another holds it";
	struct fact_listener l = fact_listen(4);
	struct second s = {.listen_fd = l.fd};
	int client = fact_connect(&l);
	second_start(&s, close_listener);
	second_work(&s);
	FACT(s.result == 0 && fact_depth(&l) == 1, fact);
	int fd = fact_accept(&l);
	FACT(fd >= 0, fact);
	(void)close(fact_connect(&l));
	second_end(&s);
	(void)close(fd);
	(void)close(client);
	(void)close(l.fd);
}

Test(tables, shutdown_ends_listening_in_every_table_at_once)
{
	static const char fact[] = "shutdown(SHUT_RD) of a listener in one table ends it "
	                           "in all: the queue is "
	                           "reset, newcomers are refused";
	struct fact_listener l = fact_listen(4);
	struct second s = {.listen_fd = l.fd};
	int client = fact_connect(&l), err;
	char byte;
	second_start(&s, shut_listener);
	second_work(&s);
	/* The second thread, and with it its table, is still there. */
	struct pollfd p = {.fd = client, .events = POLLIN};
	FACT(s.result == 0 && poll(&p, 1, 2000) == 1, fact);
	FACT(recv(client, &byte, 1, MSG_DONTWAIT) < 0 && errno == ECONNRESET, fact);
	FACT(fact_accept(&l) < 0 && errno == EINVAL, fact);
	(void)close(fact_try_connect(&l, 0, &err));
	FACT(err == ECONNREFUSED, fact);
	second_end(&s);
	(void)close(client);
	(void)close(l.fd);
}

union control {
	char space[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

static bool send_fd(int pair, int fd)
{
	union control control = {0};
	char byte = 'c';
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov,
	        .msg_iovlen = 1,
	        .msg_control = control.space,
	        .msg_controllen = sizeof(control.space)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	return sendmsg(pair, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == 1;
}

/* result: the descriptor, -1 none; flags: of the message, -1 if there was no message. */
static void receive_fd(struct second *s)
{
	char byte;
	union control control = {0};
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov,
	        .msg_iovlen = 1,
	        .msg_control = control.space,
	        .msg_controllen = sizeof(control.space)};
	s->result = s->flags = -1;
	if (recvmsg(s->pair[1], &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1)
		return;
	s->flags = msg.msg_flags;
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS &&
	        cmsg->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&s->result, CMSG_DATA(cmsg), sizeof(s->result));
}

static void make_room_and_receive(struct second *s)
{
	(void)close_range(64, ~0U, 0);
	receive_fd(s);
	if (s->result >= 0)
		s->number = (int)send(s->result, "x", 1, MSG_NOSIGNAL);
}

Test(tables, a_sender_at_emfile_can_pass_a_connection_to_another_table)
{
	static const char fact[] =
	        "SCM_RIGHTS between private tables works from a sender that is at EMFILE";
	struct fact_listener l = fact_listen(4);
	struct second s = {.number = -1};
	struct fact_full full;
	char byte;
	int client = fact_connect(&l), fd = fact_accept(&l);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s.pair), 0);
	second_start(&s, make_room_and_receive);
	fact_fill(&full);
	FACT(fact_accept(&l) < 0 && errno == EMFILE, fact);
	FACT(send_fd(s.pair[0], fd), fact);
	(void)close(fd);
	second_work(&s);
	FACT(s.result >= 0 && s.flags == MSG_CMSG_CLOEXEC && s.number == 1, fact);
	struct pollfd p = {.fd = client, .events = POLLIN};
	FACT(poll(&p, 1, 2000) == 1 && recv(client, &byte, 1, 0) == 1, fact);
	second_end(&s);
	fact_free(&full);
	(void)close(s.pair[0]);
	(void)close(s.pair[1]);
	(void)close(client);
	(void)close(l.fd);
}

static void fill_and_receive(struct second *s)
{
	while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0)
		;
	receive_fd(s);
}

Test(tables, a_receiver_at_its_limit_loses_the_descriptor)
{
	static const char fact[] = "recvmsg at the receiver's limit succeeds without the "
	                           "descriptor (MSG_CTRUNC), "
	                           "and the connection's client sees its end";
	struct fact_listener l = fact_listen(4);
	struct second s = {0};
	struct rlimit before;
	char byte;
	int client = fact_connect(&l), fd = fact_accept(&l);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s.pair), 0);
	FACT(send_fd(s.pair[0], fd), fact);
	(void)close(fd);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	struct rlimit limit = {FACT_LIMIT, before.rlim_max};
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	second_start(&s, fill_and_receive);
	second_work(&s);
	FACT(s.result == -1 && s.flags != -1 && (s.flags & MSG_CTRUNC), fact);
	struct pollfd p = {.fd = client, .events = POLLIN};
	FACT(poll(&p, 1, 2000) == 1 && recv(client, &byte, 1, 0) == 0, fact);
	second_end(&s);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	(void)close(s.pair[0]);
	(void)close(s.pair[1]);
	(void)close(client);
	(void)close(l.fd);
}

Test(tables, dup3_replaces_in_one_step_and_keeps_the_number)
{
	static const char fact[] = "dup3 onto an open number closes what was there and "
	                           "keeps the number; the "
	                           "other descriptors of the same file live on";
	int pair[2];
	char byte;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int moved = fcntl(pair[0], F_DUPFD_CLOEXEC, 0);
	struct stat before, after;
	cr_assert_eq(fstat(null, &before), 0);
	FACT(dup3(null, pair[0], O_CLOEXEC) == pair[0], fact);
	FACT(fstat(pair[0], &after) == 0 && after.st_rdev == before.st_rdev, fact);
	FACT(send(moved, "x", 1, 0) == 1 && recv(pair[1], &byte, 1, 0) == 1, fact);
	(void)close(moved);
	FACT(recv(pair[1], &byte, 1, MSG_DONTWAIT) == 0, fact);
	(void)close(null);
	(void)close(pair[0]);
	(void)close(pair[1]);
}
