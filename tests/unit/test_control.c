/*
 * test_control.c - the control socket's places: whoever takes all of them without reading what he has
 * asked for, or comes again and again, root is answered.
 */
#include <criterion/criterion.h>

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/own.h"
#include "daemon/control.h"

#define SOMEBODY 65533U
/* More than the kernel takes for one who does not read. */
static const char much[1U << 18] = "x";

static struct {
	sd_event *event;
	struct control *control;
	struct reserve reserve;
	struct sockaddr_un at;
	socklen_t at_len;
	unsigned answered, pieces;
	struct control_stream stream;
} rig;

static int next_piece(struct control_stream *stream, FILE *out)
{
	(void)stream;
	rig.pieces++;
	(void)fputs("x", out);
	return 0;
}

static void end_pieces(struct control_stream *stream)
{
	(void)stream;
}

static void answer(void *arg, const struct control_request *request, FILE *out)
{
	(void)arg;
	rig.answered++;
	if (strcmp(request->line, "long") == 0)
		(void)fwrite(much, 1, sizeof(much), out);
	if (strcmp(request->line, "stream") == 0) {
		rig.stream =
		        (struct control_stream){.next = next_piece, .end = end_pieces};
		*request->stream = &rig.stream;
	}
	(void)fprintf(out, "%s\n", request->privileged ? "privileged" : "not");
}

static void rig_open(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (geteuid() != 0)
		cr_skip_test("needs root");
	reserve_init(&rig.reserve);
	rig.at.sun_family = AF_UNIX;
	/* The kernel chooses a name. */
	cr_assert_eq(bind(fd, (struct sockaddr *)&rig.at, sizeof(sa_family_t)), 0);
	rig.at_len = sizeof(rig.at);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&rig.at, &rig.at_len), 0);
	cr_assert_eq(listen(fd, 128), 0);
	cr_assert_geq(sd_event_new(&rig.event), 0);
	cr_assert_eq(
	        control_open(&rig.control, rig.event, fd, &rig.reserve, answer, NULL), 0);
}

static void turn(unsigned times)
{
	for (unsigned i = 0; i < times; i++)
		(void)sd_event_run(rig.event, 0);
}

static int come(uid_t uid)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	cr_assert_eq(seteuid(uid), 0);
	int r = connect(fd, (struct sockaddr *)&rig.at, rig.at_len);
	cr_assert_eq(seteuid(0), 0);
	cr_assert_eq(r, 0);
	return fd;
}

/* A client of this user that has asked, and as much of its answer as is there. */
static int ask(uid_t uid, const char *request)
{
	int fd = come(uid);

	cr_assert_gt(send(fd, request, strlen(request), 0), 0);
	turn(20);
	return fd;
}

static const char *said(int fd)
{
	static char text[256];
	ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[n > 0 ? n : 0] = '\0';
	(void)own_close(fd);
	return text;
}

Test(control, root_is_answered_beside_a_crowd_that_does_not_read)
{
	uint64_t began = clock_now();
	rig_open();
	for (unsigned i = 0; i < CONTROL_CLIENTS_MAX; i++)
		(void)ask(SOMEBODY, "long\n");
	cr_assert_eq(rig.answered, CONTROL_CLIENTS_MAX);
	/* After 5 s the first of them is given up. */
	if (clock_now() - began > CLOCK_SEC)
		cr_skip_test("this machine is too slow for a crowd within a second");
	cr_assert_eq(control_fds(rig.control), 1 + CONTROL_CLIENTS_MAX);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_str_eq(said(ask(0, "short\n")), "privileged\n");
	/* Anybody else is told at once, and nobody has to go for it. */
	(void)ask(0, "long\n");
	cr_assert_eq(control_fds(rig.control), 1 + CONTROL_CLIENTS_MAX);
	cr_assert_str_eq(said(ask(SOMEBODY, "short\n")),
	        "error: too many clients that do not read; try again\n");
	cr_assert_eq(control_fds(rig.control), 1 + CONTROL_CLIENTS_MAX);
	cr_assert_str_eq(said(ask(0, "short\n")), "privileged\n");
	rig.control = control_close(rig.control);
	rig.event = sd_event_unref(rig.event);
}

Test(control, root_who_has_not_asked_yet_stays_beside_silent_newcomers)
{
	uint64_t came = clock_now();
	rig_open();
	int root = come(0);
	/* All places but root's are somebody's who does not read, or of silent ones. */
	for (unsigned readers = 0; readers <= CONTROL_CLIENTS_MAX - 1;
	        readers += CONTROL_CLIENTS_MAX - 1) {
		for (unsigned i = 0; i < readers; i++)
			(void)ask(SOMEBODY, "long\n");
		for (unsigned i = 0; i < 2 * CONTROL_CLIENTS_MAX; i++)
			(void)come(SOMEBODY);
		turn(4 * CONTROL_CLIENTS_MAX);
		ssize_t sent = send(root, "short\n", 6, MSG_NOSIGNAL);
		turn(20);
		const char *text = said(root);
		/* After 5 s whoever has not asked is given up. */
		if (clock_now() - came > 4 * CLOCK_SEC)
			cr_skip_test("this machine is too slow for a crowd");
		cr_assert_gt(sent, 0, "%u", readers);
		cr_assert_str_eq(text, "privileged\n", "%u", readers);
		came = clock_now();
		root = come(0);
		turn(20);
	}
	rig.control = control_close(rig.control);
	rig.event = sd_event_unref(rig.event);
}

Test(control, a_flood_does_not_starve_the_listing_of_root)
{
	rig_open();
	(void)ask(0, "stream\n");
	rig.pieces = 0;
	for (unsigned i = 0; i < 100; i++)
		(void)come(SOMEBODY);
	/* More are waiting all the time. */
	turn(80);
	cr_assert_geq(rig.pieces, 20, "%u", rig.pieces);
	rig.control = control_close(rig.control);
	rig.event = sd_event_unref(rig.event);
}
