/*
 * port.c - the port: what the main thread does for and with its workers.
 *
 * Descriptors that all tables share (listener, wake-ups, pair) are opened here before any
 * worker runs, so that their numbers are low and the same in every table.
 */
#include "core/port.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "base/clock.h"
#include "base/own.h"
#include "core/gauges.h"
#include "core/wakeup.h"
#include "core/worker.h"

#define PORT_JOIN_SECONDS 1

/* A configuration that some worker may still read. */
struct config_version {
	struct config config;
	struct config_version *older;
};

static struct config_version *make_version(const struct config *config)
{
	struct config_version *version = calloc(1, sizeof(*version));
	if (version)
		config_share(config, &version->config);
	return version;
}

static struct config_version *free_version(struct config_version *version)
{
	struct config_version *older = version->older;
	config_release(&version->config);
	free(version);
	return older;
}

static void push_version(struct port *port, struct config_version *version)
{
	version->older = port->versions;
	port->versions = version;
	atomic_store(&port->config, &version->config);
}

/* Frees the older ones as soon as every worker has seen the newest. */
static void free_old_configs(struct port *port)
{
	struct config_version *newest = port->versions;
	for (unsigned i = 0; i < port->n_workers; i++) {
		if (atomic_load(&port->workers[i].config_seen) != &newest->config)
			return;
	}
	struct config_version *old = newest->older;
	newest->older = NULL;
	while (old)
		old = free_version(old);
}

static void kick_all(struct port *port)
{
	for (unsigned i = 0; i < port->n_workers; i++)
		worker_wake(&port->workers[i]);
}

static void set_phase(struct port *port, enum port_phase phase)
{
	atomic_store(&port->phase, (int)phase);
	kick_all(port);
}

static int create_workers(struct port *port)
{
	unsigned n = port->budget.workers;
	port->workers = aligned_alloc(_Alignof(struct worker), n * sizeof(struct worker));
	port->stats_workers = calloc(n, sizeof(*port->stats_workers));
	if (!port->workers || !port->stats_workers)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (wake < 0)
			return -errno;
		int r = worker_init(&port->workers[i], port, i, wake);
		port->n_workers = i + 1;
		if (r < 0)
			return r;
	}
	atomic_store(&port->alive, n);
	return 0;
}

/* A dry run is held up by descriptors and memory only. */
static uint32_t table_slots_of(const struct port *port, const struct config *config)
{
	const struct budget *b = &port->budget;
	if (!port->private_tables)
		return 0;
	uint64_t all = (b->fds_slots + b->tables - 1) / b->tables;
	return (uint32_t)(config->dry_run ? all : b->table_slots);
}

/* What a configuration says to those parts that keep it for themselves. */
static void configure(struct port *port, const struct config *config)
{
	const struct budget *budget = &port->budget;
	uint64_t max = config->dry_run ? budget->fds_slots : budget->max_connections;
	admit_set_max(&port->admit, (uint32_t)max, (unsigned)config->low_watermark,
	        table_slots_of(port, config));
	atomic_store(&port->asked_max, (uint32_t)budget->max_connections);
	admit_set_priority(&port->admit, (uint32_t)budget->priority_slots);
	uint64_t now = clock_now();
	bucket_shared_set(
	        &port->rate, (uint32_t)config->rate, (uint32_t)config->burst, now);
	source_set_limits(port->sources, (uint32_t)config->source_max_connections,
	        (uint32_t)config->source_rate, (uint32_t)config->source_burst, now);
	atomic_store(&port->linger, budget->linger);
}

static int init(struct port *port, const struct config *config)
{
	const struct budget *budget = &port->budget;
	struct config_version *version = make_version(config);
	if (!version)
		return -ENOMEM;
	push_version(port, version);
	int r = admit_init(&port->admit, (uint32_t)budget->max_connections,
	        (unsigned)config->low_watermark, table_slots_of(port, config),
	        budget->workers);
	bucket_shared_init(&port->rate);
	pool_init(&port->buffers, budget->buffers);
	if (r == 0)
		r = port_create_books(budget, &port->sources);
	if (r == 0)
		configure(port, config);
	if (r == 0)
		r = hold_init(&port->hold, port->private_tables);
	if (r == 0)
		r = create_workers(port);
	return r;
}

int port_create(struct port **ret, const struct config *config,
        const struct budget *budget, const struct service *service, int listen_fd,
        int main_fd)
{
	if (budget->max_connections > UINT32_MAX / 2)
		return -EINVAL;
	struct port *port = aligned_alloc(_Alignof(struct port), sizeof(struct port));
	if (!port)
		return -ENOMEM;
	memset(port, 0, sizeof(*port));
	port->listen_fd = listen_fd;
	port->main_fd = main_fd;
	port->service = service;
	port->budget = *budget;
	port->private_tables = config->fd_table == CONFIG_FD_TABLE_PRIVATE;
	port->started = clock_now();
	port->hold = (struct hold){.pass_pair = {-1, -1}};
	state_init(&port->state, port->started);
	queue_age_init(&port->queue_age);
	(void)pthread_mutex_init(&port->spell_lock, NULL);
	(void)pthread_mutex_init(&port->start_lock, NULL);
	pthread_condattr_t monotonic;
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&port->start_changed, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);

	struct sockaddr_storage sa;
	socklen_t len = sizeof(sa);
	int r = getsockname(listen_fd, (struct sockaddr *)&sa, &len) < 0 ? -errno : 0;
	struct addr bound;
	if (r == 0)
		r = addr_from_sockaddr((struct sockaddr *)&sa, len, &bound);
	if (r == 0)
		addr_name_as(&bound, &config->address, &port->address);
	if (r == 0)
		r = init(port, config);
	if (r < 0) {
		port->listen_fd = -1; /* stays the caller's */
		(void)port_destroy(port);
		return r;
	}
	*ret = port;
	return 0;
}

struct port *port_destroy(struct port *port)
{
	/* A thread that was left behind may still use all of it; the process is about to end. */
	if (!port || port->behind > 0)
		return NULL;
	for (unsigned i = 0; i < port->n_workers; i++)
		worker_destroy(&port->workers[i]);
	pool_destroy(&port->buffers);
	free(port->workers);
	free(port->stats_workers);
	admit_destroy(&port->admit);
	bucket_shared_destroy(&port->rate);
	port->sources = source_books_destroy(port->sources);
	hold_destroy(&port->hold);
	queue_age_destroy(&port->queue_age);
	port->listen_fd = own_close(port->listen_fd);
	while (port->versions)
		port->versions = free_version(port->versions);
	(void)pthread_cond_destroy(&port->start_changed);
	(void)pthread_mutex_destroy(&port->start_lock);
	(void)pthread_mutex_destroy(&port->state.lock);
	(void)pthread_mutex_destroy(&port->spell_lock);
	free(port);
	return NULL;
}

int port_start(struct port *port)
{
	int r = 0;
	for (unsigned i = 0; i < port->n_workers && r == 0; i++) {
		struct worker *w = &port->workers[i];
		r = worker_start(w);
		if (r == 0)
			port->n_started++;
	}
	(void)pthread_mutex_lock(&port->start_lock);
	while (port->start_ready < port->n_started)
		(void)pthread_cond_wait(&port->start_changed, &port->start_lock);
	if (r == 0)
		r = port->start_error;
	(void)pthread_mutex_unlock(&port->start_lock);
	if (r < 0)
		(void)port_finish(port);
	return r;
}

bool port_spell(struct port *port, struct state_spell *ret)
{
	(void)pthread_mutex_lock(&port->spell_lock);
	bool on = state_read_spell(&port->state, clock_now(), ret);
	(void)pthread_mutex_unlock(&port->spell_lock);
	return on;
}

int port_open(struct port *port)
{
	int r = port_listen(port, atomic_load(&port->config));
	if (r == 0)
		set_phase(port, PORT_OPEN);
	return r;
}

int port_reconfigure(
        struct port *port, const struct config *config, const struct budget *budget)
{
	/* All or nothing: memory first, then what the kernel may refuse. */
	struct config_version *version = make_version(config);
	if (!version)
		return -ENOMEM;
	/* The same backlog too: net.core.somaxconn may have been raised since. */
	int r = port_listen(port, config);
	if (r < 0) {
		(void)free_version(version);
		return r;
	}
	port->budget = *budget;
	configure(port, config);
	/* Last: who sees the new version finds the rest in force. */
	push_version(port, version);
	kick_all(port);
	return 0;
}

void port_set_draining(struct port *port, bool draining)
{
	if (port_phase(port) != (draining ? PORT_OPEN : PORT_DRAINING))
		return;
	state_set_draining(&port->state, draining, clock_now());
	set_phase(port, draining ? PORT_DRAINING : PORT_OPEN);
}

void port_stop(struct port *port, bool keep_queue)
{
	if (port_phase(port) >= PORT_STOPPED)
		return;
	state_set_draining(&port->state, true, clock_now());
	atomic_store(&port->keeps_queue, keep_queue);
	/* First the phase: a worker whose accept4 then fails knows why. shutdown(2) ends
	 * listening in every table at once, where close would wait for the last of them.
	 */
	set_phase(port, PORT_STOPPED);
	if (!keep_queue)
		(void)shutdown(port->listen_fd, SHUT_RD);
}

int port_listener(const struct port *port)
{
	return port->listen_fd;
}

bool port_is_drained(const struct port *port)
{
	uint32_t left = atomic_load(&port->hold.count);
	for (unsigned i = 0; i < port->n_workers; i++) {
		const struct worker *w = &port->workers[i];
		/* It may be accepting at this moment, and counts the connection afterwards. */
		if (!atomic_load(&w->left) && !atomic_load(&w->stalled))
			return false;
		left += atomic_load(&w->conns.open);
		left += atomic_load(&w->conns.lingering);
	}
	return left == 0;
}

/* Waits for the threads to end, up to PORT_JOIN_SECONDS in all. Returns those left. */
static unsigned wait_for_end(struct port *port)
{
	struct timespec until;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += PORT_JOIN_SECONDS;
	(void)pthread_mutex_lock(&port->start_lock);
	while (port->ended < port->n_started) {
		if (pthread_cond_timedwait(
		            &port->start_changed, &port->start_lock, &until) != 0)
			break;
	}
	unsigned left = port->n_started - port->ended;
	(void)pthread_mutex_unlock(&port->start_lock);
	return left;
}

unsigned port_finish(struct port *port)
{
	set_phase(port, PORT_ENDED);
	port->behind = wait_for_end(port);
	for (unsigned i = 0; i < port->n_started; i++) {
		struct worker *w = &port->workers[i];
		if (atomic_load(&w->ended))
			(void)pthread_join(w->thread, NULL);
	}
	port->n_started = 0;
	return port->behind;
}

/* A holder that has stalled would leave the port dark. */
static void dismiss_holder(struct port *port, unsigned id)
{
	int holder = (int)id;
	if (atomic_compare_exchange_strong(&port->hold.holder, &holder, HOLD_NOBODY))
		kick_all(port);
}

unsigned port_pulse(struct port *port, unsigned *ret_first)
{
	free_old_configs(port);
	uint32_t pulse = atomic_load(&port->pulse);
	unsigned stalled = 0;
	for (unsigned i = port->n_workers; i-- > 0;) {
		struct worker *w = &port->workers[i];
		if (atomic_load(&w->pulse) == pulse)
			continue;
		atomic_store(&w->stalled, true);
		*ret_first = i;
		stalled++;
		dismiss_holder(port, i);
	}
	atomic_store(&port->alive, port->n_workers - stalled);
	/* Who waits in the queue may wait for a worker that has stalled with the only wake-up. */
	struct listener_queue queue = {0};
	(void)port_look_at_queue(port, 0, &queue);
	for (unsigned i = 0; queue.depth > 0 && i < port->n_workers; i++)
		atomic_store(&port->workers[i].look, true);

	/* A stalled worker is to answer the poke that it missed before it counts as well
	 * again. */
	atomic_store(&port->pulse, pulse + 1);
	kick_all(port);
	return stalled;
}

unsigned port_unanswered(const struct port *port)
{
	uint32_t pulse = atomic_load(&port->pulse);
	unsigned n = 0;
	for (unsigned i = 0; i < port->n_workers; i++)
		n += atomic_load(&port->workers[i].pulse) != pulse;
	return n;
}

int port_next_event(struct port *port, struct event *ret, uint64_t *ret_dropped)
{
	*ret_dropped = atomic_load(&port->spell_events.dropped);
	if (event_pop(&port->spell_events, ret) == 1)
		return 1;
	for (unsigned i = 0; i < port->n_workers; i++)
		*ret_dropped += atomic_load(&port->workers[i].events.dropped);
	for (unsigned i = 0; i < port->n_workers; i++) {
		unsigned at = (port->next_ring + i) % port->n_workers;
		if (event_pop(&port->workers[at].events, ret) == 1) {
			port->next_ring = at + 1;
			return 1;
		}
	}
	return 0;
}
