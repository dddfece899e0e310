/*
 * test_memory.c - memory is refused (the linker wraps calloc) while clients are admitted and shed,
 * and while the configuration changes: each is shed with that reason, nothing is lost, and a reload
 * changes all or nothing.
 */
#include "rig.h"

#include "serve/echo.h"

/* Which calls fail: 0 none, 1 all, 2 every other one. */
static unsigned refuse, calls, refused;

void *__wrap_calloc(size_t n, size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
	if (refuse > 0 && ++calls % refuse == 0) {
		refused++;
		return NULL;
	}
	return __real_calloc(n, size);
}

/* Every limit that books something for a client. */
RIG_FN void open_rig(struct rig *rig, unsigned slots, enum config_answer answer)
{
	rig_init(rig, 1, slots);
	rig->config.answer = answer;
	memcpy(rig->config.message.bytes, "busy", 4);
	rig->config.message.len = 4;
	rig->config.source_max_connections = slots;
	rig->config.source_rate = 1;
	rig->config.source_burst = slots;
	rig->config.rate = 1;
	rig->config.burst = slots;
	refuse = 0;
	rig_open(rig, &echo_service);
	/* The first second after a change of the rates gives no tokens back. */
	rig->now += 2 * CLOCK_SEC;
}

RIG_FN void shed_one(struct rig *rig, enum config_answer answer)
{
	uint64_t shed = rig_counts(rig).shed[SHED_MEMORY];
	int client = rig_connect(rig);
	RIG_UNTIL(rig, 0, rig_counts(rig).shed[SHED_MEMORY] == shed + 1);
	char found = rig_await(client);
	if (answer == CONFIG_ANSWER_MESSAGE) {
		cr_assert_eq(found, 'd', "found %c", found);
		found = rig_await(client);
	}
	cr_assert_eq(found, answer == CONFIG_ANSWER_RESET ? 'r' : 'e', "found %c", found);
	(void)own_close(client);
}

RIG_FN void serve(struct rig *rig, unsigned n)
{
	int client[8];
	for (unsigned i = 0; i < n; i++)
		client[i] = rig_serve(rig, 0);
	for (unsigned i = 0; i < n; i++)
		(void)own_close(client[i]);
}

/* What was refused has taken nothing: as many as the limits allow are served afterwards. */
RIG_FN void refuse_and_serve(enum config_answer answer)
{
	struct rig rig;
	struct source_usage usage;
	open_rig(&rig, 3, answer);
	refused = 0;
	refuse = 1;
	for (unsigned i = 0; i < 20; i++)
		shed_one(&rig, answer);
	refuse = 0;
	cr_assert_geq(refused, 20);
	cr_assert_eq(rig.port->admit.used, 0);
	source_read_usage(rig.port->sources, &usage);
	cr_assert_eq(usage.open, 0);
	serve(&rig, 3);
	cr_assert_eq(rig_counts(&rig).shed[SHED_MEMORY], 20);
	rig_close(&rig);
}

Test(memory, none_for_the_newcomer)
{
	refuse_and_serve(CONFIG_ANSWER_RESET);
	refuse_and_serve(CONFIG_ANSWER_CLOSE);
	refuse_and_serve(CONFIG_ANSWER_MESSAGE);
}

/* Now and then: some are served, all are counted (rig_close asks the books). */
Test(memory, some_for_most)
{
	struct rig rig;
	int client[600];
	open_rig(&rig, 600, CONFIG_ANSWER_RESET);
	refuse = 2;
	for (unsigned i = 0; i < 600; i++) {
		client[i] = rig_connect(&rig);
		RIG_UNTIL(&rig, 0, rig_counts(&rig).counter[COUNTER_ACCEPTED] == i + 1);
	}
	refuse = 0;
	struct counts counts = rig_counts(&rig);
	cr_assert_gt(counts.shed[SHED_MEMORY], 0);
	cr_assert_eq(counts.shed[SHED_MEMORY], counts_total_shed(&counts));
	cr_assert_eq(rig_worker(&rig, 0)->conns.open, 600 - counts.shed[SHED_MEMORY]);
	cr_assert_eq(rig.port->admit.used, 600 - counts.shed[SHED_MEMORY]);
	for (unsigned i = 0; i < 600; i++)
		(void)own_close(client[i]);
	RIG_UNTIL(&rig, 0, rig_worker(&rig, 0)->conns.open == 0);
	rig_close(&rig);
}

Test(memory, none_for_a_reload)
{
	struct rig rig;
	struct listener_queue queue;
	open_rig(&rig, 3, CONFIG_ANSWER_RESET);
	const struct config *before = atomic_load(&rig.port->config);
	struct config changed = rig.config;
	struct budget budget = rig.budget;
	changed.source_max_connections = 1;
	changed.backlog = 5;
	budget.max_connections = 1;
	refuse = 1;
	cr_assert_eq(port_reconfigure(rig.port, &changed, &budget), -ENOMEM);
	refuse = 0;
	rig_turn(&rig, 0);
	cr_assert_eq(atomic_load(&rig.port->config), before);
	cr_assert_eq(rig.port->admit.max, 3, "all or nothing");
	cr_assert_eq(listener_read_queue(rig.port->listen_fd, &queue), 0);
	cr_assert_eq(queue.effective, 64, "the backlog");
	serve(&rig, 3);
	rig_close(&rig);
}
