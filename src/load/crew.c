/*
 * crew.c - see crew.h.
 *
 * Invariants: a child that is alive has its pid in pids[]; signals are blocked and read from
 * signal_fd, and the children ignore those of the terminal, so that Ctrl-C ends in a report;
 * no child outlives this process (PR_SET_PDEATHSIG).
 */
#include "load/crew.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/own.h"
#include "load/engine.h"

#define TICK CLOCK_SEC

/* The child's whole life. */
static _Noreturn void work(struct crew *crew, uint64_t index, pid_t parent)
{
	struct engine engine = {.options = crew->options,
	        .order = crew->order,
	        .shared = &crew->blocks[index],
	        .epoll_fd = -1,
	        .order_fd = crew->order_fd,
	        .news_fd = crew->news_fd,
	        .fds = (int)crew->plan->fds};

	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	/* The parent may have died before it was asked about. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(EXIT_NOTHING);
	plan_share(crew->plan, crew->options, index, &engine.share);
	_exit(engine_run(&engine));
}

static int set_up(struct crew *crew)
{
	size_t n = crew->plan->processes;
	const struct rlimit limit = {
	        .rlim_cur = crew->plan->fds, .rlim_max = crew->plan->fds};
	/* The blocks begin on a cache line of their own. */
	size_t head = (sizeof(struct order) + 63) / 64 * 64;
	sigset_t set;

	crew->mapped = head + n * sizeof(*crew->blocks);
	void *map = mmap(NULL, crew->mapped, PROT_READ | PROT_WRITE,
	        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return -errno;
	crew->order = map;
	crew->blocks = (struct shared *)(void *)((char *)map + head);
	crew->pids = calloc(n, sizeof(*crew->pids));
	if (!crew->pids)
		return -ENOMEM;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -errno;
	crew->order_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	crew->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (crew->order_fd < 0 || crew->news_fd < 0)
		return -errno;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGCHLD);
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): a process has one thread. */
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	crew->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return crew->signal_fd < 0 ? -errno : 0;
}

int crew_start(struct crew *crew, const struct options *options, const struct plan *plan)
{
	pid_t parent = getpid();

	crew->options = options;
	crew->plan = plan;
	int r = set_up(crew);
	for (uint64_t i = 0; r == 0 && i < plan->processes; i++) {
		pid_t pid = fork();

		if (pid == 0)
			work(crew, i, parent);
		if (pid < 0)
			r = -errno;
		else
			crew->pids[i] = pid;
	}
	if (r < 0)
		crew_destroy(crew);
	return r;
}

void crew_order(struct crew *crew, enum order_word word, uint64_t start, uint64_t until,
        uint64_t rate)
{
	struct order *order = crew->order;
	uint64_t one = 1;

	figure_set(&order->start, start);
	figure_set(&order->until, until);
	figure_set(&order->rate, rate);
	atomic_store_explicit(&order->word, (uint32_t)word, memory_order_relaxed);
	atomic_fetch_add_explicit(&order->serial, 1, memory_order_release);
	(void)!write(crew->order_fd, &one, sizeof(one));
}

/* Takes note of children that have ended. */
static void reap(struct crew *crew)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (uint64_t i = 0; i < crew->plan->processes; i++)
			if (crew->pids[i] == pid) {
				crew->pids[i] = 0;
				/* The kernel has closed what it held. */
				figure_set(&crew->blocks[i].figures.open, 0);
				figure_set(&crew->blocks[i].figures.standing, 0);
				crew->lost++;
				crew->lost_status = status;
			}
}

static void read_signals(struct crew *crew)
{
	struct signalfd_siginfo info;

	while (read(crew->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		if (info.ssi_signo != SIGCHLD)
			crew->interrupted = true;
	reap(crew);
}

static bool is_done(const struct crew *crew)
{
	uint32_t serial =
	        atomic_load_explicit(&crew->order->serial, memory_order_relaxed);

	for (uint64_t i = 0; i < crew->plan->processes; i++)
		if (crew->pids[i] != 0 && atomic_load_explicit(&crew->blocks[i].done,
		                                  memory_order_acquire) != serial)
			return false;
	return true;
}

/* Only what has another end can end: a terminal must not be read from in the background, and
 * /dev/null is always at its end. */
static bool input_can_end(void)
{
	struct stat st;
	return fstat(STDIN_FILENO, &st) == 0 &&
	       (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

static int timeout_ms(uint64_t until)
{
	uint64_t now = clock_now();

	if (until <= now)
		return 0;
	/* Rounded up, or the last millisecond is spent spinning. */
	return (int)((until - now + CLOCK_MSEC - 1) / CLOCK_MSEC);
}

/* Has something come that is waited for? Returns false if not yet. */
static bool is_over(
        const struct crew *crew, const struct crew_wait *wait, enum crew_event *ret)
{
	if (crew->lost == crew->plan->processes)
		*ret = CREW_LOST;
	else if (wait->for_done && is_done(crew))
		*ret = CREW_DONE;
	else if (crew->interrupted && !wait->to_the_end)
		*ret = CREW_INTERRUPTED;
	else if (clock_now() >= wait->deadline)
		*ret = CREW_DEADLINE;
	else
		return false;
	return true;
}

enum crew_event crew_wait(struct crew *crew, const struct crew_wait *wait)
{
	bool watch_input = wait->for_input_end && input_can_end();
	uint64_t next_tick = clock_now() + TICK, news;
	enum crew_event event;

	while (!is_over(crew, wait, &event)) {
		uint64_t now = clock_now();
		if (now >= next_tick) {
			next_tick = now + TICK;
			if (wait->tick)
				wait->tick(crew, wait->arg);
		}
		struct pollfd fds[] = {{.fd = crew->signal_fd, .events = POLLIN},
		        {.fd = crew->news_fd, .events = POLLIN},
		        {.fd = watch_input ? STDIN_FILENO : -1, .events = POLLRDHUP}};
		uint64_t until = next_tick;
		if (wait->deadline < until)
			until = wait->deadline;
		if (poll(fds, ARRAY_SIZE(fds), timeout_ms(until)) < 0)
			continue;
		if (fds[0].revents)
			read_signals(crew);
		if (fds[1].revents)
			(void)!read(crew->news_fd, &news, sizeof(news));
		if (fds[2].revents & (POLLHUP | POLLRDHUP | POLLERR))
			return CREW_INPUT_ENDED;
	}
	return event;
}

/* Who died has left connections without an outcome. */
static void count_lost(struct figures *sum)
{
	uint64_t decided = 0;

	for (int i = 0; i < OUTCOME_COUNT; i++)
		decided += figure_get(&sum->outcome[i]);
	figure_set(&sum->undecided, figure_get(&sum->attempted) - decided);
}

void crew_sum_counters(const struct crew *crew, struct figures *ret)
{
	memset(ret, 0, sizeof(*ret));
	for (uint64_t i = 0; i < crew->plan->processes; i++) {
		const struct figures *f = &crew->blocks[i].figures;

		figure_add(&ret->attempted, figure_get(&f->attempted));
		figure_add(&ret->undecided, figure_get(&f->undecided));
		figure_add(&ret->open, figure_get(&f->open));
		figure_add(&ret->open_peak, figure_get(&f->open_peak));
		figure_add(&ret->standing, figure_get(&f->standing));
		figure_add(&ret->sampled, figure_get(&f->sampled));
		figure_add(&ret->unsampled, figure_get(&f->unsampled));
		for (int k = 0; k < OUTCOME_COUNT; k++) {
			figure_add(&ret->outcome[k], figure_get(&f->outcome[k]));
			figure_add(&ret->lost[k], figure_get(&f->lost[k]));
		}
	}
	if (crew->lost)
		count_lost(ret);
}

static uint64_t most(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static void add_errors(struct error_count *into, const struct error_count *from)
{
	for (int i = 0; i < SHARED_ERRORS && from[i].error; i++)
		for (int k = 0; k < SHARED_ERRORS; k++) {
			if (into[k].error && into[k].error != from[i].error)
				continue;
			into[k].error = from[i].error;
			into[k].count += from[i].count;
			break;
		}
}

void crew_sum(const struct crew *crew, struct figures *ret)
{
	crew_sum_counters(crew, ret);
	for (uint64_t i = 0; i < crew->plan->processes; i++) {
		const struct figures *f = &crew->blocks[i].figures;

		for (int k = 0; k < LATE_COUNT; k++)
			ret->late[k] += f->late[k];
		ret->lag_max = most(ret->lag_max, f->lag_max);
		ret->last_start = most(ret->last_start, f->last_start);
		ret->wall += f->wall;
		ret->cpu += f->cpu;
		ret->waiting += f->waiting;
		add_errors(ret->errors, f->errors);
		hist_merge(&ret->connect, &f->connect);
		hist_merge(&ret->first_byte, &f->first_byte);
		hist_merge(&ret->shed, &f->shed);
		hist_merge(&ret->sample, &f->sample);
	}
}

void crew_clear(struct crew *crew)
{
	for (uint64_t i = 0; i < crew->plan->processes; i++)
		memset(&crew->blocks[i].figures, 0, sizeof(crew->blocks[i].figures));
}

void crew_destroy(struct crew *crew)
{
	if (crew->order_fd >= 0)
		crew_order(crew, ORDER_QUIT, 0, 0, 0);
	for (uint64_t i = 0; crew->pids && i < crew->plan->processes; i++)
		if (crew->pids[i] != 0)
			(void)waitpid(crew->pids[i], NULL, 0);
	free(crew->pids);
	crew->pids = NULL;
	if (crew->order)
		(void)munmap(crew->order, crew->mapped);
	crew->order = NULL;
	crew->order_fd = own_close(crew->order_fd);
	crew->news_fd = own_close(crew->news_fd);
	crew->signal_fd = own_close(crew->signal_fd);
}
