/*
 * test_refused.c - what the kernel refuses to a worker while it runs (the linker wraps the calls):
 * nobody is lost from the books, no slot is lost, and it is tried again.
 */
#include "hold_rig.h"

#include <fcntl.h>
#include <stdarg.h>

#include "core/accept_call.h"
#include "core/gauges.h"
#include "core/interest.h"
#include "core/shed.h"

/* The next `times` calls fail with err. */
static struct refusal {
	int err;
	unsigned times;
} of_epoll, of_send, of_receive, of_shutdown, of_fcntl, of_dup;

/* Of epoll_ctl only those that concern this descriptor; -1: any. */
static int epoll_fd_of_interest = -1;

static bool refuses(struct refusal *r)
{
	if (r->times == 0)
		return false;
	r->times--;
	errno = r->err;
	return true;
}

int __real_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	bool mine = epoll_fd_of_interest < 0 || epoll_fd_of_interest == fd;
	if (op != EPOLL_CTL_DEL && mine && refuses(&of_epoll))
		return -1;
	return __real_epoll_ctl(epfd, op, fd, event);
}

ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	return refuses(&of_send) ? -1 : __real_sendmsg(fd, msg, flags);
}

/* As at EMFILE: the byte comes without the descriptor, which the kernel has closed. */
ssize_t __real_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	if (refuses(&of_receive))
		msg->msg_controllen = 0;
	return __real_recvmsg(fd, msg, flags);
}

int __real_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how);
int __wrap_shutdown(int fd, int how)
{
	return refuses(&of_shutdown) ? -1 : __real_shutdown(fd, how);
}

int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...)
{
	va_list arguments;
	va_start(arguments, command);
	int argument = va_arg(arguments, int);
	va_end(arguments);
	if (command == F_DUPFD_CLOEXEC && refuses(&of_fcntl))
		return -1;
	return __real_fcntl(fd, command, argument);
}

int __real_dup3(int from, int to, int flags);
int __wrap_dup3(int from, int to, int flags);
int __wrap_dup3(int from, int to, int flags)
{
	return refuses(&of_dup) ? -1 : __real_dup3(from, to, flags);
}

Test(refused, a_client_that_cannot_be_passed_stays_held_and_is_passed_later)
{
	struct rig rig;
	int served[2];
	int client = hold_for_worker_1(&rig, CONFIG_FD_TABLE_PRIVATE, served);
	of_send = (struct refusal){.err = ETOOMANYREFS, .times = 1};
	rig_turn(&rig, 0);
	cr_assert_eq(of_send.times, 0, "it was never sent");
	cr_assert_eq(hold_pass_state(hold_of(&rig)), HOLD_PASS_NONE);
	cr_assert_eq(hold_of(&rig)->count, 1);
	cr_assert_geq(rig_worker(&rig, 0)->held.watch.fd, 0);
	cr_assert_eq(rig.port->admit.used, 1, "its slot is free again");
	rig_assert_books(&rig);
	(void)rig_run(&rig, MS(60), 100);
	cr_assert_eq(hold_of(&rig)->count, 0);
	cr_assert_eq(rig_worker(&rig, 1)->conns.open, 1);
	cr_assert_eq(rig_look(client), '-');
	close_clients(served, 2);
	(void)close(client);
	rig_close(&rig);
}

/* Its worker notices that it leaves also after it could not be passed. */
Test(refused, a_client_that_cannot_be_passed_may_leave)
{
	struct rig rig;
	int served[2];
	int client = hold_for_worker_1(&rig, CONFIG_FD_TABLE_PRIVATE, served);
	of_send = (struct refusal){.err = ETOOMANYREFS, .times = 1000000};
	rig_turn(&rig, 0);
	sock_reset(client);
	RIG_UNTIL(&rig, 0, shed_for(&rig, SHED_ABORTED) == 1);
	cr_assert_eq(hold_of(&rig)->count, 0);
	close_clients(served, 2);
	rig_close(&rig);
}

Test(refused, a_descriptor_that_is_lost_on_its_way_is_counted_and_its_slot_free)
{
	struct rig rig;
	int served[2];
	int client = hold_for_worker_1(&rig, CONFIG_FD_TABLE_PRIVATE, served);
	rig_turn(&rig, 0);
	cr_assert_eq(hold_pass_state(hold_of(&rig)), HOLD_PASS_OFFERED);
	of_receive = (struct refusal){.times = 1};
	rig_turn(&rig, 1);
	cr_assert_eq(shed_for(&rig, SHED_FDS), 1);
	cr_assert_eq(hold_of(&rig)->count, 0);
	cr_assert_eq(hold_pass_state(hold_of(&rig)), HOLD_PASS_NONE);
	cr_assert_eq(rig.port->admit.used, 1);
	cr_assert_eq(booked(&rig), 1, "its network has its place back");
	cr_assert_eq(rig_await(client), 'e', "the kernel has closed it");
	rig_assert_books(&rig);
	(void)close(client);
	/* The next one gets the slot. */
	client = rig_connect(&rig);
	(void)rig_run(&rig, MS(60), 100);
	cr_assert_eq(port_connections(rig.port), 2);
	close_clients(served, 2);
	(void)close(client);
	rig_close(&rig);
}

Test(refused, a_descriptor_that_is_lost_on_its_way_back_is_counted)
{
	struct rig rig;
	int served[2];
	int client = hold_for_worker_1(&rig, CONFIG_FD_TABLE_PRIVATE, served);
	rig_turn(&rig, 0);
	of_receive = (struct refusal){.times = 1};
	rig.now += HOLD_PASS_NS;
	rig_turn(&rig, 0);
	cr_assert_eq(shed_for(&rig, SHED_FDS), 1);
	cr_assert_eq(hold_of(&rig)->count, 0);
	cr_assert_eq(hold_pass_state(hold_of(&rig)), HOLD_PASS_NONE);
	cr_assert_eq(rig.port->admit.used, 1);
	cr_assert_eq(booked(&rig), 1);
	cr_assert_eq(rig_await(client), 'e');
	close_clients(served, 2);
	(void)close(client);
	rig_close(&rig);
}

Test(refused, a_worker_without_the_listener_tries_again_with_the_next_pulse)
{
	struct rig rig;
	unsigned stalled;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &quiet_service);
	struct worker *w = rig_worker(&rig, 0);
	epoll_fd_of_interest = rig.port->listen_fd;
	of_epoll = (struct refusal){.err = ENOSPC, .times = 2};
	worker_listen(w, WORKER_LISTEN_OFF);
	rig_turn(&rig, 0);
	rig_turn(&rig, 0);
	cr_assert_eq(of_epoll.times, 0);
	cr_assert_eq(w->listen, WORKER_LISTEN_OFF);
	int client = rig_connect(&rig);
	(void)port_pulse(rig.port, &stalled);
	(void)rig_run(&rig, 0, 10);
	cr_assert_eq(w->listen, WORKER_LISTEN_SHARED);
	cr_assert_eq(w->conns.open, 1);
	(void)close(client);
	rig_close(&rig);
}

Test(refused, a_holder_without_the_listener_tries_again_with_the_next_pulse)
{
	struct rig rig;
	unsigned stalled;
	int served[2];
	rig_init(&rig, 1, 2);
	rig.config.queue_timeout = 0;
	rig_open(&rig, &quiet_service);
	struct worker *w = rig_worker(&rig, 0);
	for (int i = 0; i < 2; i++)
		served[i] = rig_serve(&rig, 0);
	int first = rig_connect(&rig);
	RIG_UNTIL(&rig, 0, shed_for(&rig, SHED_FULL) == 1);
	cr_assert_eq(hold_of(&rig)->holder, 0);
	epoll_fd_of_interest = rig.port->listen_fd;
	of_epoll = (struct refusal){.err = ENOMEM, .times = 1000};
	worker_listen(w, WORKER_LISTEN_OFF);
	w->held.again = true;
	rig_turn(&rig, 0);
	cr_assert_lt(of_epoll.times, 1000);
	cr_assert_eq(w->listen, WORKER_LISTEN_OFF);
	int second = rig_connect(&rig);
	(void)rig_run(&rig, MS(10), 10);
	cr_assert_eq(shed_for(&rig, SHED_FULL), 1, "nobody looks");
	of_epoll.times = 0;
	(void)port_pulse(rig.port, &stalled);
	(void)rig_run(&rig, 0, 10);
	cr_assert_eq(shed_for(&rig, SHED_FULL), 2);
	cr_assert_eq(w->listen, WORKER_LISTEN_SOLE);
	close_clients(served, 2);
	close_clients((const int[]){first, second}, 2);
	rig_close(&rig);
}

/* Nobody is told when it leaves, but it has its time, and its slot. */
Test(refused, a_held_client_that_cannot_be_watched_is_held_all_the_same)
{
	struct rig rig;
	int served[2];
	rig_init(&rig, 1, 2);
	rig.config.queue_timeout = CLOCK_INFINITY - 1;
	rig_open(&rig, &quiet_service);
	for (int i = 0; i < 2; i++)
		served[i] = rig_serve(&rig, 0);
	int client = rig_connect(&rig);
	of_epoll = (struct refusal){.err = ENOMEM, .times = 1};
	RIG_UNTIL(&rig, 0, hold_of(&rig)->count == 1);
	cr_assert_eq(of_epoll.times, 0);
	conn_close(rig_newest(&rig, 0), CLOSE_CLIENT);
	(void)rig_run(&rig, 0, 10);
	cr_assert_eq(hold_of(&rig)->count, 0);
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, 2);
	close_clients(served, 2);
	(void)close(client);
	rig_close(&rig);
}

static const struct service answering_service = {
        .name = "answering", .fds_per_connection = 1, .events = EPOLLOUT};

/* Two ways in which a connection that was answered cannot linger: it is closed at once. */
RIG_FN void close_without_lingering(struct refusal *of, int err)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig_open(&rig, &answering_service);
	struct worker *w = rig_worker(&rig, 0);
	int client = rig_connect(&rig), fd = -1;
	struct addr peer;
	w->now = rig.now;
	cr_assert_eq(admit_take(&rig.port->admit, 0), 0);
	cr_assert_eq(worker_accept_one(w, false, &fd, &peer), 0);
	struct ticket ticket = {.peer = peer, .would_shed = SHED_COUNT};
	ticket.source.entry = SOURCE_NONE;
	cr_assert_eq(conn_open(w, fd, &ticket), 0);
	*of = (struct refusal){.err = err, .times = 1};
	conn_close(rig_newest(&rig, 0), CLOSE_SERVICE);
	cr_assert_eq(of->times, 0);
	cr_assert_eq(w->conns.lingering, 0);
	cr_assert_eq(w->conns.open, 0);
	cr_assert_eq(rig.port->admit.used, 0);
	cr_assert_eq(rig_await(client), 'e');
	conn_free_closed(w);
	cr_assert(list_is_empty(&w->conns.closed));
	(void)close(client);
	rig_close(&rig);
}

Test(refused, who_cannot_linger_is_closed_at_once)
{
	close_without_lingering(&of_epoll, ENOMEM);
	close_without_lingering(&of_shutdown, ENOTCONN);
}

/* Who is shed with a message, and can have no place in the epoll set to take it in. */
Test(refused, a_message_to_who_cannot_linger_arrives)
{
	struct rig rig;
	rig_init(&rig, 1, 4);
	rig.config.answer = CONFIG_ANSWER_MESSAGE;
	memcpy(rig.config.message.bytes, "busy", 4);
	rig.config.message.len = 4;
	rig_open(&rig, &quiet_service);
	struct worker *w = rig_worker(&rig, 0);
	int client = rig_connect(&rig), fd = -1;
	struct addr peer;
	w->now = rig.now;
	cr_assert_eq(worker_accept_one(w, false, &fd, &peer), 0);
	of_epoll = (struct refusal){.err = ENOSPC, .times = 1};
	shed(w, fd, SHED_FULL, &peer);
	cr_assert_eq(of_epoll.times, 0);
	cr_assert_eq(w->conns.lingering, 0);
	cr_assert_eq(rig_await(client), 'd');
	cr_assert_eq(rig_await(client), 'e');
	(void)close(client);
	rig_close(&rig);
}

/* The client's descriptor has the low number that is to be the kept one's, and cannot be moved. */
RIG_FN void serve_under_the_low_number(struct refusal *of)
{
	int pair[2];
	struct kept kept;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	kept.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	cr_assert_gt(kept.fd, pair[0]);
	int before = kept.fd;
	*of = (struct refusal){.err = EMFILE, .times = 1};
	cr_assert_eq(kept_swap_low(&kept, pair[0]), pair[0]);
	cr_assert_eq(of->times, 0);
	cr_assert_eq(kept.fd, before);
	cr_assert_eq(send(pair[0], "x", 1, 0), 1, "it is the same socket");
	int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
	cr_assert_eq(next, before + 1, "nothing else was left open");
	close_clients((const int[]){next, kept.fd, pair[0], pair[1]}, 4);
}

Test(refused, a_socket_that_cannot_be_moved_keeps_its_number)
{
	serve_under_the_low_number(&of_fcntl);
	serve_under_the_low_number(&of_dup);
}
