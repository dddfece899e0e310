/*
 * test_fdtable.c - a table of a thread's own, and the descriptor kept back, at an EMFILE
 * that is real.
 */
#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/own.h"
#include "fdfill.h"
#include "net/fdtable.h"

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int open_null(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	return fd;
}

static ino_t inode_of(int fd)
{
	struct stat st;
	cr_assert_eq(fstat(fd, &st), 0, "descriptor %d: %m", fd);
	return st.st_ino;
}

#define NAMED 4

struct table {
	int keep[NAMED + 2];
	int open_before, open_after; /* among the numbers below 256 */
	int result;
	int also_closed; /* closed in the private table only */
};

static int count_open(void)
{
	int n = 0;
	for (int fd = 0; fd < 256; fd++)
		n += is_open(fd);
	return n;
}

/* No assertions here: criterion's own descriptors are gone after the first call. */
static void *make_private(void *arg)
{
	struct table *t = arg;
	t->open_before = count_open();
	t->result = fdtable_make_private(t->keep, NAMED + 2);
	t->open_after = count_open();
	for (int i = 0; i < NAMED + 2; i++)
		t->open_after -=
		        i > 0 && t->keep[i] == t->keep[i - 1] ? 0 : is_open(t->keep[i]);
	(void)close(t->also_closed);
	return NULL;
}

Test(fdtable, a_private_table_keeps_exactly_what_was_named)
{
	struct table t = {0};
	int fd[NAMED], gap[NAMED];
	for (int i = 0; i < NAMED; i++) {
		fd[i] = open_null();
		gap[i] = open_null();
	}
	/* Unsorted, one named twice, one that is not open. */
	const int keep[] = {fd[2], fd[0], fd[3], fd[0], 200, fd[1]};
	memcpy(t.keep, keep, sizeof(keep));
	t.also_closed = fd[1];
	int before = count_open();
	pthread_t thread;
	cr_assert_eq(pthread_create(&thread, NULL, make_private, &t), 0);
	cr_assert_eq(pthread_join(thread, NULL), 0);

	cr_assert_eq(t.result, 0);
	cr_assert_geq(t.open_before, before);
	/* What was named and is open was taken off the count: nothing else may be left. */
	cr_assert_eq(t.open_after, 0, "%d descriptors too many", t.open_after);
	for (int i = 1; i < NAMED + 2; i++)
		cr_assert_leq(t.keep[i - 1], t.keep[i], "sorted in place");
	/* And this table has lost nothing. */
	cr_assert_eq(count_open(), before);
	for (int i = 0; i < NAMED; i++) {
		cr_assert(is_open(fd[i]));
		(void)close(fd[i]);
		(void)close(gap[i]);
	}
}

static void *count_named(void *arg)
{
	struct table *t = arg;
	t->result = fdtable_make_private(t->keep, NAMED);
	for (int i = 0; i < NAMED; i++)
		t->open_after += is_open(t->keep[i]);
	/* Number 0 is kept or closed like any other. */
	t->open_before = is_open(0);
	return NULL;
}

Test(fdtable, the_kept_ones_are_open_under_their_numbers)
{
	struct table t = {0};
	for (int i = 0; i < NAMED; i++)
		t.keep[i] = open_null();
	pthread_t thread;
	cr_assert_eq(pthread_create(&thread, NULL, count_named, &t), 0);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	cr_assert_eq(t.result, 0);
	cr_assert_eq(t.open_after, NAMED);
	cr_assert_eq(t.open_before, 0, "number 0 was not named");
	for (int i = 0; i < NAMED; i++)
		(void)close(t.keep[i]);
}

Test(kept, refill_opens_one_and_only_one)
{
	struct kept kept = {.fd = -1};
	int before = count_open();
	cr_assert_eq(kept_refill(&kept), 0);
	int fd = kept.fd;
	cr_assert(is_open(fd));
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(kept_refill(&kept), 0);
	cr_assert_eq(kept.fd, fd);
	cr_assert_eq(count_open(), before + 1);
	kept_close(&kept);
	cr_assert_eq(kept.fd, -1);
	kept_close(&kept);
	cr_assert_eq(count_open(), before);
}

Test(kept, probe_says_whether_there_is_another_beside_the_kept_one)
{
	struct kept kept = {.fd = -1};
	struct fdfill fill;
	fdfill_all(&fill);
	cr_assert_eq(kept_refill(&kept), -EMFILE);
	cr_assert_eq(kept_probe(&kept), -EMFILE);
	cr_assert_eq(kept.fd, -1);
	fdfill_free(&fill, 1);
	cr_assert_eq(kept_probe(&kept), -EMFILE, "the one that is free is for itself");
	cr_assert_geq(kept.fd, 0);
	fdfill_free(&fill, 1);
	cr_assert_eq(kept_probe(&kept), 0);
	cr_assert_eq(kept_probe(&kept), 0, "looking takes nothing");
	kept_close(&kept);
	fdfill_end(&fill);
}

Test(kept, what_is_wanted_comes_before_another)
{
	struct kept kept = {.fd = -1};
	struct fdfill fill;
	fdfill_all(&fill);
	fdfill_free(&fill, 2);
	cr_assert_eq(kept_probe(&kept), 0);
	fdtable_want(2);
	cr_assert_eq(kept_probe(&kept), -EMFILE);
	fdfill_free(&fill, 1);
	cr_assert_eq(kept_probe(&kept), -EMFILE, "one too few");
	fdfill_free(&fill, 1);
	cr_assert_eq(kept_probe(&kept), 0);
	fdtable_want(0);
	kept_close(&kept);
	fdfill_end(&fill);
}

static int make_listener(uint16_t *ret_port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in sa = {
	        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sa);
	cr_assert_geq(fd, 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	cr_assert_eq(listen(fd, 16), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	*ret_port = ntohs(sa.sin_port);
	return fd;
}

static int connect_to(uint16_t port)
{
	struct sockaddr_in sa = {.sin_family = AF_INET,
	        .sin_port = htons(port),
	        .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_geq(fd, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	return fd;
}

Test(kept, accepts_in_its_place_at_emfile_and_not_without_a_client)
{
	struct kept kept = {.fd = -1};
	struct fdfill fill;
	uint16_t port;
	int listener = make_listener(&port), got = -1;
	cr_assert_eq(kept_refill(&kept), 0);
	int number = kept.fd;
	int client = connect_to(port);
	fdfill_all(&fill);

	cr_assert_eq(accept4(listener, NULL, NULL, 0), -1);
	cr_assert_eq(errno, EMFILE, "EMFILE is real");
	cr_assert_eq(kept_accept(&kept, listener, &got), 0, "the client was still there");
	cr_assert_eq(got, number);
	cr_assert_eq(kept.fd, -1, "it is lent out");
	cr_assert(fcntl(got, F_GETFL) & O_NONBLOCK);
	cr_assert(fcntl(got, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(write(client, "x", 1), 1);
	/* With nothing to lend, the connection would stay in the queue. */
	int other = -2;
	cr_assert_eq(kept_accept(&kept, listener, &other), -EMFILE);
	cr_assert_eq(other, -2);

	(void)close(got);
	cr_assert_eq(kept_accept(&kept, listener, &other), -EAGAIN);
	cr_assert_eq(kept.fd, number, "nothing was accepted, so it is back");
	kept_close(&kept);
	fdfill_end(&fill);
	(void)close(client);
	(void)close(listener);
}

Test(kept, swap_moves_the_socket_up_and_the_kept_one_down)
{
	int low = open_null();
	struct kept kept = {.fd = -1};
	int pair[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(kept_refill(&kept), 0);
	int high = kept.fd;
	ino_t null_inode = inode_of(high), socket_inode = inode_of(pair[0]);
	cr_assert_lt(pair[0], high);

	int moved = kept_swap_low(&kept, pair[0]);
	cr_assert_neq(moved, pair[0]);
	cr_assert_eq(kept.fd, pair[0], "the socket's old number is the kept one's now");
	cr_assert_gt(moved, kept.fd);
	cr_assert_eq(inode_of(moved), socket_inode);
	cr_assert_eq(inode_of(kept.fd), null_inode);
	cr_assert_not(is_open(high), "nothing is left at the old number");
	cr_assert(fcntl(moved, F_GETFD) & FD_CLOEXEC);
	cr_assert(fcntl(kept.fd, F_GETFD) & FD_CLOEXEC);

	int number = kept.fd;
	cr_assert_eq(kept_swap_low(&kept, moved), moved, "already in order");
	cr_assert_eq(kept.fd, number);
	(void)close(moved);
	(void)close(pair[1]);
	kept_close(&kept);
	cr_assert_eq(kept_swap_low(&kept, low), low, "none is kept: nothing to swap");
	(void)close(low);
}

Test(kept, nothing_moves_without_a_third_number)
{
	struct kept kept = {.fd = -1};
	struct fdfill fill;
	int fd = open_null();
	cr_assert_eq(kept_refill(&kept), 0);
	int number = kept.fd;
	fdfill_all(&fill);
	cr_assert_eq(kept_swap_low(&kept, fd), fd);
	cr_assert_eq(kept.fd, number);
	cr_assert(is_open(fd));
	cr_assert(is_open(number));
	fdfill_end(&fill);
	kept_close(&kept);
	(void)close(fd);
}

/* LOCK_WAIT of fdtable.c; a timer is never early, but the clocks are read at different
 * moments. */
#define WAITS_AT_LEAST (4 * CLOCK_MSEC)

struct lender {
	struct kept kept;
	bool own_table;
	uint64_t took; /* ns, for kept_refill */
};

static void *refill_now(void *arg)
{
	struct lender *l = arg;
	int none = -1;
	if (l->own_table)
		(void)fdtable_make_private(&none, 0);
	uint64_t began = clock_now();
	(void)kept_refill(&l->kept);
	l->took = clock_now() - began;
	return NULL;
}

static struct lender refill_in_a_thread(bool own_table)
{
	struct lender l = {.kept = {.fd = -1}, .own_table = own_table};
	pthread_t thread;
	cr_assert_eq(pthread_create(&thread, NULL, refill_now, &l), 0);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	cr_assert_geq(l.kept.fd, 0, "it went on without the lock");
	if (!own_table)
		kept_close(&l.kept);
	return l;
}

Test(kept, nobody_waits_for_ever_for_a_thread_that_has_stalled, .timeout = 10)
{
	for (unsigned round = 0; round < 3; round++) {
		fdtable_lock();
		/* Who has a table of his own has not waited, or the next one would not. */
		(void)refill_in_a_thread(true);
		cr_assert_geq(refill_in_a_thread(false).took, WAITS_AT_LEAST);
		/* Known to be overdue: a hundred of them do not wait again, nor do
		 * they give back what they have not got. */
		uint64_t took = 0;
		for (unsigned i = 0; i < 100; i++)
			took += refill_in_a_thread(false).took;
		cr_assert_lt(took, 50 * WAITS_AT_LEAST);
		fdtable_unlock();
	}
}

struct onlooker {
	bool own_table, entered;
	unsigned wanted;
};

static void *look(void *arg)
{
	struct onlooker *o = arg;
	int none = -1;
	if (o->own_table)
		(void)fdtable_make_private(&none, 0);
	o->entered = fdtable_enter();
	if (o->entered)
		fdtable_leave();
	o->wanted = fdtable_wanted();
	/* Not having the lock, it cannot end what another has begun. */
	fdtable_unlock();
	return NULL;
}

static struct onlooker look_from_a_thread(bool own_table)
{
	struct onlooker o = {.own_table = own_table};
	pthread_t thread;
	cr_assert_eq(pthread_create(&thread, NULL, look, &o), 0);
	cr_assert_eq(pthread_join(thread, NULL), 0);
	return o;
}

Test(kept, others_in_the_table_see_what_is_lent_and_wanted)
{
	fdtable_lend();
	cr_assert(look_from_a_thread(false).entered, "without the lock");
	fdtable_want(3);
	fdtable_lock();
	cr_assert(look_from_a_thread(false).entered);
	fdtable_lend();
	cr_assert_not(look_from_a_thread(false).entered);
	cr_assert_not(look_from_a_thread(false).entered, "still");
	cr_assert_eq(look_from_a_thread(false).wanted, 3);
	struct onlooker apart = look_from_a_thread(true);
	cr_assert(apart.entered);
	cr_assert_eq(apart.wanted, 0);
	fdtable_unlock();
	cr_assert(look_from_a_thread(false).entered);
	fdtable_want(0);
}

static uint64_t time_to_lend(void)
{
	fdtable_lock();
	uint64_t began = clock_now();
	fdtable_lend();
	uint64_t took = clock_now() - began;
	fdtable_unlock();
	return took;
}

Test(kept, nothing_is_lent_while_somebody_is_inside, .timeout = 10)
{
	/* This thread stands for another that has stalled between enter and leave. */
	cr_assert(fdtable_enter());
	cr_assert_geq(time_to_lend(), WAITS_AT_LEAST);
	uint64_t took = 0;
	for (int i = 0; i < 100; i++)
		took += time_to_lend();
	cr_assert_lt(took, 50 * WAITS_AT_LEAST, "known to have stalled");
	fdtable_leave();
	(void)time_to_lend();
	/* The next one is waited for again. */
	cr_assert(fdtable_enter());
	cr_assert_geq(time_to_lend(), WAITS_AT_LEAST);
	fdtable_leave();
}

static void *go_in_and_out(void *arg)
{
	_Atomic int *in = arg;
	for (int i = 0; i < 20000; i++) {
		if (!fdtable_enter())
			continue;
		(*in)++;
		(*in)--;
		fdtable_leave();
	}
	return NULL;
}

Test(kept, who_lends_is_alone)
{
	_Atomic int in = 0;
	unsigned together = 0;
	bool late = false;
	pthread_t thread[2];
	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, go_in_and_out, &in), 0);
	for (int i = 0; i < 2000; i++) {
		fdtable_lock();
		uint64_t began = clock_now();
		fdtable_lend();
		late = late || clock_now() - began >= WAITS_AT_LEAST;
		for (int k = 0; k < 20; k++)
			together += in > 0;
		fdtable_unlock();
	}
	for (int i = 0; i < 2; i++)
		cr_assert_eq(pthread_join(thread[i], NULL), 0);
	if (late)
		cr_skip_test("the machine is too busy: one was not waited for");
	cr_assert_eq(together, 0);
}

static int inside;
static _Atomic int together;
static _Atomic uint64_t longest; /* that one of them waited for it and had it, ns */

static void *lock_often(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2000; i++) {
		uint64_t began = clock_now();
		fdtable_lock();
		together += inside++ > 0;
		if (i % 100 == 0)
			(void)sched_yield();
		inside--;
		uint64_t had = clock_now() - began;
		if (had > longest)
			longest = had;
		fdtable_unlock();
	}
	return NULL;
}

Test(kept, the_lock_excludes)
{
	pthread_t thread[3];
	for (int i = 0; i < 3; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, lock_often, NULL), 0);
	for (int i = 0; i < 3; i++)
		cr_assert_eq(pthread_join(thread[i], NULL), 0);
	if (longest >= WAITS_AT_LEAST)
		cr_skip_test("the machine is too busy: one was not waited for");
	cr_assert_eq(together, 0);
}
