/*
 * test_exhausted.c - each allocation, mapping, descriptor and address in turn is refused (the linker
 * wraps the calls) where the port is made, the configuration is read, and connections are listed: an
 * errno comes back, nothing is left behind (a leak checker sees memory, the test descriptors), and the
 * next attempt succeeds.
 */
#include "config_files.h"
#include "rig.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "net/prefix.h"
#include "serve/echo.h"

/* The call that is refused: 1 is the next one, 0 none. */
static unsigned refuse_in;
static const char *refused; /* the wrapper that did */

#define refuses(err) refuses_here(err, __func__)

static bool refuses_here(int err, const char *wrapper)
{
	if (refuse_in == 0 || --refuse_in > 0)
		return false;
	refused = wrapper;
	errno = err;
	return true;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
	return refuses(ENOMEM) ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
	return refuses(ENOMEM) ? NULL : __real_calloc(n, size);
}

void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size)
{
	return refuses(ENOMEM) ? NULL : __real_realloc(p, size);
}

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return refuses(ENOMEM) ? NULL : __real_aligned_alloc(alignment, size);
}

char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
char *__wrap_strdup(const char *text)
{
	return refuses(ENOMEM) ? NULL : __real_strdup(text);
}

void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	return refuses(ENOMEM) ? MAP_FAILED
	                       : __real_mmap(at, size, protection, flags, fd, offset);
}

ssize_t __real_getrandom(void *buf, size_t size, unsigned flags);
ssize_t __wrap_getrandom(void *buf, size_t size, unsigned flags);
ssize_t __wrap_getrandom(void *buf, size_t size, unsigned flags)
{
	return refuses(ENOSYS) ? -1 : __real_getrandom(buf, size, flags);
}

int __real_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags);
int __wrap_eventfd(unsigned count, int flags)
{
	return refuses(EMFILE) ? -1 : __real_eventfd(count, flags);
}

int __real_socketpair(int domain, int type, int protocol, int pair[2]);
int __wrap_socketpair(int domain, int type, int protocol, int pair[2]);
int __wrap_socketpair(int domain, int type, int protocol, int pair[2])
{
	return refuses(ENFILE) ? -1 : __real_socketpair(domain, type, protocol, pair);
}

int __real_getsockname(int fd, struct sockaddr *sa, socklen_t *len);
int __wrap_getsockname(int fd, struct sockaddr *sa, socklen_t *len);
int __wrap_getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
	return refuses(ENOBUFS) ? -1 : __real_getsockname(fd, sa, len);
}

/* The number that the next descriptor would have: the same again if none was left open. */
static int next_fd(void)
{
	int fd = dup(STDERR_FILENO);
	cr_assert_geq(fd, 0);
	(void)close(fd);
	return fd;
}

static int make_port(const struct rig *rig, int listen_fd, struct port **ret)
{
	return port_create(
	        ret, &rig->config, &rig->budget, &echo_service, listen_fd, rig->main_fd);
}

RIG_FN unsigned make_port_at_last(enum config_fd_table table)
{
	struct addr any = {.family = AF_INET, .bytes = {127, 0, 0, 1}}, bound;
	struct rig rig;
	bool fallback;
	int listen_fd = -1, r = -1;
	unsigned n = 0;
	rig_init(&rig, 2, 8);
	rig.config.fd_table = table;
	rig.main_fd = eventfd(0, EFD_CLOEXEC);
	cr_assert_eq(listener_open(&any, 0, &listen_fd, &bound, &fallback), 0);
	int next = next_fd();
	while (r < 0) {
		struct port *port = NULL;
		cr_assert_lt(++n, 100);
		refuse_in = n;
		r = make_port(&rig, listen_fd, &port);
		bool was_refused = refuse_in == 0;
		refuse_in = 0;
		/* Without memory for the pool a port does without one (pool.h). */
		bool lacks_pool = r == 0 && port->buffers.n == 0;
		cr_assert_eq(r < 0 || lacks_pool, was_refused, "call %u, %s: %d", n,
		        refused, r);
		if (r < 0) {
			cr_assert_null(port);
			cr_assert_eq(next_fd(), next, "call %u: a descriptor is left", n);
			cr_assert_geq(fcntl(listen_fd, F_GETFD), 0, "it is the caller's");
		} else {
			cr_assert_null(port_destroy(port)); /* and the listener */
			if (!lacks_pool)
				break;
			cr_assert_eq(
			        listener_open(&any, 0, &listen_fd, &bound, &fallback), 0);
			r = -1;
		}
	}
	(void)close(rig.main_fd);
	return n;
}

Test(exhausted, a_port_is_made_whole_or_not_at_all)
{
	cr_assert_geq(make_port_at_last(CONFIG_FD_TABLE_SHARED), 12);
	cr_assert_geq(make_port_at_last(CONFIG_FD_TABLE_PRIVATE), 13);
}

Test(exhausted, a_listener_without_an_address_is_closed)
{
	struct addr any = {.family = AF_INET, .bytes = {127, 0, 0, 1}}, bound;
	bool fallback;
	int fd = -1, next = next_fd();
	refuse_in = 1;
	cr_assert_eq(listener_open(&any, 0, &fd, &bound, &fallback), -ENOBUFS);
	cr_assert_eq(refuse_in, 0);
	cr_assert_eq(fd, -1);
	cr_assert_eq(next_fd(), next);
}

Test(exhausted, a_walk_that_has_no_memory_takes_no_place)
{
	struct rig rig;
	struct walk *walk = NULL;
	rig_init(&rig, 1, 8);
	rig_open(&rig, &echo_service);
	refuse_in = 1;
	cr_assert_eq(walk_create(rig.port, NULL, rig.now, &walk), -ENOMEM);
	cr_assert_eq(rig.port->walks, 0);
	cr_assert_eq(walk_create(rig.port, NULL, rig.now, &walk), 0);
	cr_assert_null(walk_destroy(rig.port, walk));
	cr_assert_null(walk_destroy(rig.port, NULL));
	rig_close(&rig);
}

Test(exhausted, a_configuration_is_read_whole_or_not_at_all, .init = enter, .fini = leave)
{
	struct config config;
	unsigned n = 0;
	int r = -1;
	write_text("a", "[source]\ndeny = 10.0.0.0/8\nallow = ::/0 127.0.0.1\n"
	                "[shed]\nmessage = busy\\n\n");
	cr_assert_eq(mkdir("a.d", 0755), 0);
	write_text("a.d/10.conf", "[source]\ndeny = 10.1.0.0/16, 10.3.0.0/16\n");
	char slashes[200];
	memset(slashes, '/', sizeof(slashes));
	int next = next_fd();
	while (r < 0) {
		char path[256], override[100];
		cr_assert_lt(++n, 200);
		/* Names are kept for as long as the process lives: each time others. */
		(void)snprintf(path, sizeof(path), ".%.*sa", (int)n, slashes);
		(void)snprintf(
		        override, sizeof(override), "source.priority=192.0.2.%u/32", n);
		refuse_in = n;
		r = load(path, &config, override, "service.type=echo");
		bool was_refused = refuse_in == 0;
		refuse_in = 0;
		cr_assert_eq(
		        r, was_refused ? -ENOMEM : 0, "call %u, %s: %d", n, refused, r);
		cr_assert_eq(next_fd(), next);
	}
	cr_assert_geq(n, 12);
	cr_assert_eq(prefix_set_count(config.source_deny), 2);
	cr_assert_eq(prefix_set_count(config.source_priority), 1);
	config_release(&config);
}
