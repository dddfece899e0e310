/*
 * limits.c - what the machine allows: the arithmetic from descriptors and memory to slots.
 *
 * Invariants: the formula of limits.h is written once for each kind of table
 * (fds_for_slots), and the largest number of slots is found by search, which is right
 * because the formula never falls when slots rise; what is refused names a value that is
 * then accepted. Numbers of descriptors stay below 2^30 and workers at 1024 or less, so
 * that no product here can overflow.
 */
#include "core/limits.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "core/pool.h"

#define WORKERS_MAX UINT64_C(1024)
/* fs.nr_open cannot be more. */
#define NOFILE_MAX UINT64_C(1073741816)

const char *limits_bound_name(enum limits_bound bound)
{
	static const char *const names[] = {
	        [LIMITS_BOUND_FDS] = "fds",
	        [LIMITS_BOUND_MEMORY] = "memory",
	        [LIMITS_BOUND_MAX_CONNECTIONS] = "max_connections",
	};

	return names[bound];
}

/* What the descriptors are shared out by. */
struct shape {
	uint64_t workers;
	uint64_t cost; /* descriptors of one connection */
	bool private;
	uint64_t hard;     /* RLIMIT_NOFILE */
	uint64_t priority; /* slots that every table has room for beside its own */
	const struct config *config;
};

/* Writes «PLACE: [section] key: », with which a mistake begins. */
static void say_key(const struct config *config, enum config_key_index key, FILE *out)
{
	char text[CONFIG_PLACE_MAX];

	(void)fprintf(out, "%s: ", config_format_key(config, key, text));
}

/* « (PLACE)» after another key's value, "" where that is the default. */
static const char *place_of(const struct config *config, enum config_key_index key,
        char buf[static CONFIG_PLACE_MAX])
{
	const struct config_place *place = &config->origin[key];

	if (!place->name)
		return "";
	(void)strcpy(buf, " (");
	(void)config_place_format(place, buf + 2, CONFIG_PLACE_MAX - 3);
	return strcat(buf, ")");
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Also the step in which slots come: one, or with private tables one in each. */
static uint64_t shape_tables(const struct shape *s)
{
	return s->private ? s->workers : 1;
}

/* Also what its own table must hold, where it has one. */
static uint64_t kept_for_main(const struct shape *s)
{
	return LIMITS_KEPT_MAIN + (s->private ? s->workers : 0);
}

static uint64_t linger_for(uint64_t slots)
{
	uint64_t n = slots / 16;

	return n < 1 ? 1 : n > LIMITS_LINGER_MAX ? LIMITS_LINGER_MAX : n;
}

/* Descriptors of one table that holds its share of so many slots, a multiple of the step.
 */
static uint64_t table_for_slots(const struct shape *s, uint64_t slots)
{
	uint64_t linger = linger_for(slots);

	if (s->private)
		return LIMITS_KEPT_WORKER + s->workers + linger +
		       (slots / s->workers + s->priority) * s->cost;
	return kept_for_main(s) + s->workers * (LIMITS_KEPT_WORKER + linger) +
	       (slots + s->priority) * s->cost;
}

/* The least fds with which so many slots fit. */
static uint64_t fds_for_slots(const struct shape *s, uint64_t slots)
{
	uint64_t step = shape_tables(s);
	uint64_t table = table_for_slots(s, (slots + step - 1) / step * step);

	return s->private ? kept_for_main(s) + s->workers * table : table;
}

/* Descriptors of one table if all have fds. */
static uint64_t table_for_fds(const struct shape *s, uint64_t fds)
{
	uint64_t table = fds;

	if (s->private)
		table = fds < kept_for_main(s) ? 0
		                               : (fds - kept_for_main(s)) / s->workers;
	return table < s->hard ? table : s->hard;
}

/* The most slots that fit into fds; 0 if not even one does. */
static uint64_t slots_for_fds(const struct shape *s, uint64_t fds)
{
	uint64_t table = table_for_fds(s, fds), step = shape_tables(s);
	uint64_t fits = 0, too_many = table / s->cost + 1; /* in steps */

	/* The main thread's own table has the same RLIMIT_NOFILE. */
	if (s->hard < kept_for_main(s))
		return 0;
	while (too_many - fits > 1) {
		uint64_t middle = fits + (too_many - fits) / 2;

		if (table_for_slots(s, middle * step) <= table)
			fits = middle;
		else
			too_many = middle;
	}
	return fits * step;
}

/* The least count of workers with private tables that has so many slots, or so many fds
 * if slots is 0; 0 if no count has. */
static uint64_t private_workers_for(const struct shape *s, uint64_t fds, uint64_t slots)
{
	for (uint64_t n = 1; n <= WORKERS_MAX; n++) {
		struct shape p = {.workers = n,
		        .cost = s->cost,
		        .private = true,
		        .hard = s->hard,
		        .priority = s->priority};

		if (slots > 0 ? slots_for_fds(&p, n * s->hard) >= slots
		              : n * s->hard >= fds && slots_for_fds(&p, fds) > 0)
			return n;
	}
	return 0;
}

/* Ends the line of a mistake with the ways to more descriptors: fds, or what so many
 * slots need if slots is not 0. */
static void advise_more_fds(const struct shape *s, uint64_t fds, uint64_t slots,
        const char *joiner, FILE *errors)
{
	uint64_t n = private_workers_for(s, fds, slots);
	uint64_t tables = shape_tables(s), limit = (fds + tables - 1) / tables;

	if (limit < kept_for_main(s))
		limit = kept_for_main(s);
	if (n > 0)
		(void)fprintf(errors, "%s%s[workers] count >= %" PRIu64, joiner,
		        s->private ? "" : "[workers] fd_table = private with ", n);
	(void)fprintf(errors, "%sraise LimitNOFILE= to %" PRIu64 "\n", joiner, limit);
}

/* fds is more than the machine has. */
static void fds_refuse_most(
        const struct shape *s, uint64_t fds, uint64_t most, FILE *errors)
{
	say_key(s->config, CONFIG_KEY_fds, errors);
	(void)fprintf(errors, "%" PRIu64 " asked, but ", fds);
	if (s->private)
		(void)fprintf(errors, "%" PRIu64 " private table%s", s->workers,
		        s->workers == 1 ? " holds" : "s hold");
	else
		(void)fprintf(errors, "one shared table holds");
	(void)fprintf(errors,
	        " at most %" PRIu64 " (hard RLIMIT_NOFILE %" PRIu64
	        "); use fds <= %" PRIu64,
	        most, s->hard, most);
	advise_more_fds(s, fds, 0, ", or ", errors);
}

/* The most workers with which a single slot fits into fds (CONFIG_AUTO: all there are); 0
 * if not even one worker has it. */
static uint64_t workers_for_one_slot(const struct shape *s, uint64_t fds)
{
	struct shape fewer = *s;

	for (; fewer.workers > 0; fewer.workers--) {
		uint64_t most = fewer.hard * shape_tables(&fewer);

		if (slots_for_fds(&fewer, fds == CONFIG_AUTO || fds > most ? most : fds) >
		        0)
			return fewer.workers;
	}
	return 0;
}

/* Do connections get half of the descriptors that the workers share? */
static bool shape_is_roomy(const struct shape *s, uint64_t asked)
{
	uint64_t tables = shape_tables(s), most = s->hard * tables;
	uint64_t fds = asked == CONFIG_AUTO || asked > most ? most : asked;
	uint64_t slots = slots_for_fds(s, fds), kept = s->private ? 0 : LIMITS_KEPT_MAIN;

	return slots > 0 && 2 * (slots / tables + s->priority) * s->cost >=
	                            table_for_fds(s, fds) - kept;
}

/* [workers] count = auto: one for each CPU, fewer where descriptors are few. asked: as for
 * workers_for_one_slot. */
static uint64_t workers_choose(
        const struct shape *s, uint64_t cpus, uint64_t asked, FILE *warnings)
{
	struct shape fewer = *s;

	fewer.workers = cpus < WORKERS_MAX ? cpus : WORKERS_MAX;
	uint64_t most = fewer.workers;
	while (fewer.workers > 1 && !shape_is_roomy(&fewer, asked))
		fewer.workers--;
	if (fewer.workers == most)
		return most;
	say_key(s->config, CONFIG_KEY_workers, warnings);
	(void)fprintf(warnings,
	        "auto takes %" PRIu64 " of %" PRIu64
	        ", for descriptors are few; raise LimitNOFILE= for one worker on each "
	        "CPU\n",
	        fewer.workers, most);
	return fewer.workers;
}

/* The most priority slots beside which so many slots fit into fds; 0 also if they never do. */
static uint64_t priority_for_slots(const struct shape *s, uint64_t fds, uint64_t slots)
{
	struct shape fewer = *s;
	uint64_t fits = 0, too_many = s->priority + 1;

	while (too_many - fits > 1) {
		fewer.priority = fits + (too_many - fits) / 2;
		if (slots_for_fds(&fewer, fds) >= slots)
			fits = fewer.priority;
		else
			too_many = fewer.priority;
	}
	return fits;
}

/* Would so many slots fit into fds, were it not for [budget] priority? */
static bool priority_is_in_the_way(const struct shape *s, uint64_t fds, uint64_t slots)
{
	struct shape none = *s;

	none.priority = 0;
	return s->priority > 0 && slots_for_fds(&none, fds) >= slots;
}

/* The priority slots leave no descriptor for a single other connection. */
static void priority_refuse(
        const struct shape *s, uint64_t fds, uint64_t most, FILE *errors)
{
	uint64_t least = fds_for_slots(s, 1), tables = shape_tables(s);
	char place[CONFIG_PLACE_MAX];

	say_key(s->config, CONFIG_KEY_priority, errors);
	(void)fprintf(errors,
	        "%" PRIu64
	        " asked%s, which with one ordinary connection need fds %" PRIu64
	        ", but fds %s %" PRIu64 "%s; use priority <= %" PRIu64,
	        s->priority, s->private ? " in each table" : "", least,
	        s->config->fds == CONFIG_AUTO ? "are" : "is", fds,
	        place_of(s->config, CONFIG_KEY_fds, place),
	        priority_for_slots(s, fds, 1));
	if (least <= most && s->config->fds != CONFIG_AUTO)
		(void)fprintf(errors, ", or fds >= %" PRIu64 "\n", least);
	else
		(void)fprintf(errors, ", or raise LimitNOFILE= to %" PRIu64 "%s\n",
		        (least + tables - 1) / tables,
		        s->config->fds == CONFIG_AUTO ? "" : " with fds = auto");
}

/* fds, or what auto made of it, is too little for a single slot. */
static void fds_refuse_least(
        const struct shape *s, uint64_t asked, uint64_t fds, uint64_t most, FILE *errors)
{
	uint64_t least = fds_for_slots(s, 1), tables = shape_tables(s);
	uint64_t limit = (least + tables - 1) / tables;
	uint64_t workers = workers_for_one_slot(s, asked);
	bool is_auto = asked == CONFIG_AUTO;
	char place[CONFIG_PLACE_MAX];

	say_key(s->config, CONFIG_KEY_fds, errors);
	(void)fprintf(errors,
	        "%" PRIu64 " %s, but [workers] count %" PRIu64 "%s"
	        " needs %" PRIu64 " for a single connection; use ",
	        fds, is_auto ? "are there" : "asked", s->workers,
	        place_of(s->config, CONFIG_KEY_workers, place), least);
	if (workers > 0)
		(void)fprintf(errors, "[workers] count <= %" PRIu64 ", or ", workers);
	if (least <= most && s->hard >= kept_for_main(s))
		(void)fprintf(errors, "fds >= %" PRIu64 "\n", least);
	else
		(void)fprintf(errors, "LimitNOFILE= of at least %" PRIu64 "%s\n",
		        limit < kept_for_main(s) ? kept_for_main(s) : limit,
		        is_auto ? "" : " with fds = auto");
}

/* Descriptors in all tables, as asked for or as there are. Returns 0, or 1 after a
 * mistake. */
static int fds_compute(const struct shape *s, uint64_t asked, uint64_t *ret, FILE *errors)
{
	uint64_t most = s->hard * shape_tables(s);
	bool is_auto = asked == CONFIG_AUTO;

	if (!is_auto && asked > most) {
		fds_refuse_most(s, asked, most, errors);
		return 1;
	}
	*ret = is_auto ? most : asked;
	if (slots_for_fds(s, *ret) > 0)
		return 0;
	if (priority_is_in_the_way(s, *ret, 1))
		priority_refuse(s, *ret, most, errors);
	else
		fds_refuse_least(s, asked, *ret, most, errors);
	return 1;
}

/* max_connections as asked for, beside what fds allows. Returns 0, or 1 after a mistake.
 */
static int slots_check_fds(const struct shape *s, uint64_t fds, FILE *errors)
{
	const struct config *config = s->config;
	uint64_t asked = config->max_connections;
	char place[CONFIG_PLACE_MAX];
	uint64_t allowed = slots_for_fds(s, fds);
	uint64_t need = fds_for_slots(s, asked);

	if (asked <= allowed)
		return 0;
	say_key(config, CONFIG_KEY_max_connections, errors);
	(void)fprintf(errors,
	        "%" PRIu64 " asked, which needs fds %" PRIu64 ", but fds %" PRIu64
	        "%s allows %" PRIu64 "; use max_connections <= %" PRIu64,
	        asked, need, fds, place_of(config, CONFIG_KEY_fds, place), allowed,
	        allowed);
	bool enough = need <= s->hard * shape_tables(s);

	if (!enough)
		(void)fprintf(errors, " (hard RLIMIT_NOFILE %" PRIu64 ")", s->hard);
	if (priority_is_in_the_way(s, fds, asked))
		(void)fprintf(errors, ", or [budget] priority <= %" PRIu64 "%s",
		        priority_for_slots(s, fds, asked),
		        place_of(config, CONFIG_KEY_priority, place));
	if (enough) {
		(void)fprintf(errors, ", or fds >= %" PRIu64 "\n", need);
		return 1;
	}
	advise_more_fds(s, need, asked,
	        config->fds == CONFIG_AUTO ? ", or " : ", or fds = auto and ", errors);
	return 1;
}

/* Connections that all of the memory has room for. */
static uint64_t slots_for_memory(uint64_t memory)
{
	return least(memory / LIMITS_MEMORY_CONNECTION, LIMITS_SLOTS_MAX);
}

/* Priority slots are never more than half of the memory has room for: the other half is
 * that of max_connections = auto. Returns 0, or 1 after a mistake. */
static int priority_check_memory(const struct shape *s, uint64_t memory, FILE *errors)
{
	uint64_t half = slots_for_memory(memory) / 2;

	if (s->priority == 0 || s->priority <= half)
		return 0;
	say_key(s->config, CONFIG_KEY_priority, errors);
	(void)fprintf(errors,
	        "%" PRIu64 " asked, but at 8 KiB each they need %" PRIu64
	        " KiB of memory and half of it is %" PRIu64 "; use priority <= %" PRIu64
	        "\n",
	        s->priority, s->priority * LIMITS_MEMORY_CONNECTION >> 10, memory >> 11,
	        half);
	return 1;
}

static int slots_check_memory(
        const struct shape *s, uint64_t memory, FILE *errors, FILE *warnings)
{
	const struct config *config = s->config;
	uint64_t asked = config->max_connections;
	uint64_t all = slots_for_memory(memory);
	uint64_t left = all > s->priority ? all - s->priority : 0;

	if (asked > left) {
		say_key(config, CONFIG_KEY_max_connections, errors);
		(void)fprintf(errors,
		        "%" PRIu64 " asked, but at 8 KiB each they "
		        "need %" PRIu64 " MiB "
		        "of memory and there are %" PRIu64
		        "; use max_connections <= %" PRIu64 "\n",
		        asked, (asked * LIMITS_MEMORY_CONNECTION >> 20),
		        (left * LIMITS_MEMORY_CONNECTION >> 20), left);
		return 1;
	}
	if (asked > all / 2) {
		say_key(config, CONFIG_KEY_max_connections, warnings);
		(void)fprintf(warnings,
		        "%" PRIu64 " connections at 8 KiB each need "
		        "more than half "
		        "of the memory (%" PRIu64 " MiB); at most %" PRIu64
		        " would stay below\n",
		        asked, (memory >> 20), (all / 2));
	}
	return 0;
}

/* Slots as asked for, or what fds and memory allow. */
static void slots_choose(
        struct budget *b, uint64_t asked, uint64_t by_fds, uint64_t memory)
{
	uint64_t by_memory = slots_for_memory(memory) / 2;

	if (by_memory < 1)
		by_memory = 1;
	if (asked != CONFIG_AUTO) {
		b->bound_by = LIMITS_BOUND_MAX_CONNECTIONS;
		b->max_connections = asked;
	} else if (by_memory < by_fds) {
		b->bound_by = LIMITS_BOUND_MEMORY;
		b->max_connections = by_memory;
	} else {
		b->bound_by = LIMITS_BOUND_FDS;
		b->max_connections = by_fds;
	}
}

/* What may ever be open, whatever is asked for: of a dry run, or after a reload. */
static void slots_bound(
        struct budget *b, const struct shape *s, uint64_t by_fds, uint64_t memory)
{
	uint64_t all = slots_for_memory(memory);
	/* Never less than what was granted, on however small a machine. */
	uint64_t granted = b->max_connections + s->priority;
	uint64_t by_memory = all > granted ? all : granted;

	b->fds_slots = least(by_fds, by_memory - s->priority);
	b->fds_slots_bound =
	        b->fds_slots < by_fds ? LIMITS_BOUND_MEMORY : LIMITS_BOUND_FDS;
	b->most = least(b->fds / s->cost, by_memory);
}

/* Two for each worker at least: one is always at hand (echo.c). */
static unsigned buffers_for(uint64_t memory, unsigned workers)
{
	uint64_t bytes = memory / LIMITS_BUFFERS_PART;

	if (bytes < LIMITS_BUFFERS_MIN)
		bytes = LIMITS_BUFFERS_MIN;
	if (bytes > LIMITS_BUFFERS_MAX)
		bytes = LIMITS_BUFFERS_MAX;
	unsigned n = (unsigned)(bytes / POOL_BUFFER);
	return n < 2 * workers ? 2 * workers : n;
}

int limits_compute(const struct machine *machine, const struct config *config,
        unsigned fds_per_connection, struct budget *ret, FILE *errors, FILE *warnings)
{
	uint64_t cpus = machine->cpus < 1 ? 1 : machine->cpus;
	struct shape s = {
	        .workers = config->workers,
	        .cost = fds_per_connection < 1 ? 1 : fds_per_connection,
	        .private = config->fd_table == CONFIG_FD_TABLE_PRIVATE,
	        .priority = prefix_set_count(config->source_priority) > 0
	                            ? config->priority
	                            : 0,
	        .hard = machine->nofile_hard < NOFILE_MAX ? machine->nofile_hard
	                                                  : NOFILE_MAX,
	        .config = config,
	};
	if (s.workers == CONFIG_AUTO)
		s.workers = workers_choose(&s, cpus, config->fds, warnings);
	uint64_t asked = config->max_connections, fds = 0;
	int wrong = fds_compute(&s, config->fds, &fds, errors);

	if (asked != CONFIG_AUTO && wrong == 0)
		wrong |= slots_check_fds(&s, fds, errors);
	if (asked != CONFIG_AUTO)
		wrong |= slots_check_memory(&s, machine->memory, errors, warnings);
	wrong |= priority_check_memory(&s, machine->memory, errors);
	if (wrong)
		return 1;

	struct budget b = {.workers = (unsigned)s.workers,
	        .tables = (unsigned)shape_tables(&s),
	        .fds_per_connection = fds_per_connection,
	        .fds = fds};
	uint64_t by_fds = slots_for_fds(&s, fds);

	b.priority_slots = s.priority;
	slots_choose(&b, asked, by_fds, machine->memory);
	slots_bound(&b, &s, by_fds, machine->memory);
	b.table_limit = table_for_fds(&s, fds);
	/* RLIMIT_NOFILE is the process's: a small table must not make main's too small.
	 */
	if (b.table_limit < kept_for_main(&s))
		b.table_limit = kept_for_main(&s);
	b.table_slots = by_fds / b.tables;
	if (b.table_slots > b.max_connections || !s.private)
		b.table_slots = b.max_connections;
	b.linger = (unsigned)linger_for(b.max_connections);
	b.buffers = buffers_for(machine->memory, b.workers);
	*ret = b;
	return 0;
}
