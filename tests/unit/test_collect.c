/*
 * test_collect.c - the port in figures: what is told of it is exactly what there is.
 */
#include "hold_rig.h"

#include <dirent.h>

#include "core/port_explain.h"
#include "core/shed.h"

static const struct addr peer_2 = {.family = AF_INET, .bytes = {127, 0, 0, 2}};
static const struct addr peer_3 = {.family = AF_INET, .bytes = {127, 0, 0, 3}};

/* What this process has open. */
static uint64_t open_fds(void)
{
	uint64_t n = 0;
	DIR *dir = opendir("/proc/self/fd");
	cr_assert(dir);
	while (readdir(dir))
		n++;
	(void)closedir(dir);
	return n;
}

Test(collect, descriptors_in_use_are_those_that_are_open)
{
	for (unsigned workers = 1; workers <= 3; workers++) {
		struct rig rig;
		struct stats stats;
		int client[4];
		uint64_t before = open_fds();
		rig_init(&rig, workers, 8);
		rig_open(&rig, &quiet_service);
		for (unsigned i = 0; i < 4; i++)
			client[i] = rig_serve(&rig, 0);
		port_collect(rig.port, 5, &stats);
		/* 3 are the standard ones, 4 the clients' own, 5 somebody else's. */
		cr_assert_eq(stats.fds_in_use - 3 - 5, open_fds() - before - 4);
		close_clients(client, 4);
		rig_close(&rig);
	}
}

Test(collect, what_the_kernel_does_not_say_is_not_made_up)
{
	struct rig rig;
	struct stats stats;
	rig_init(&rig, 1, 8);
	rig_open(&rig, &quiet_service);
	int listen_fd = rig.port->listen_fd;
	rig.port->listen_fd = rig.main_fd;
	port_collect(rig.port, 0, &stats);
	rig.port->listen_fd = listen_fd;
	cr_assert_eq(stats.kernel_drops, 0);
	cr_assert_eq(stats.queue_depth, 0);
	rig_close(&rig);
}

static enum port_rule backlog_rule(struct rig *rig, uint32_t queue)
{
	struct port_verdict verdict;
	port_explain(rig->port, &peer_2, &verdict);
	cr_assert_eq(verdict.queue, queue);
	cr_assert_eq(verdict.queue_max, 4);
	return verdict.rule[SHED_BACKLOG];
}

/* From three quarters on, as the holder does it. */
Test(collect, explain_says_when_the_queue_is_too_long)
{
	struct rig rig;
	int client[4];
	rig_init(&rig, 1, 1);
	rig.config.backlog = 4;
	rig_open(&rig, &quiet_service);
	client[0] = rig_serve(&rig, 0);
	for (int i = 1; i < 3; i++)
		client[i] = rig_connect(&rig);
	cr_assert_eq(backlog_rule(&rig, 2), PORT_RULE_NO);
	client[3] = rig_connect(&rig);
	cr_assert_eq(backlog_rule(&rig, 3), PORT_RULE_YES);
	close_clients(client, 4);
	rig_close(&rig);
}

/* Those of one turn have one time. */
Test(collect, records_are_told_the_newest_first)
{
	static const enum shed_reason reasons[] = {SHED_FULL, SHED_DENIED, SHED_RATE};
	struct rig rig;
	struct port_records records;
	struct prefix net = prefix_mask(&peer_2, 32, 64);
	rig_init(&rig, 1, 8);
	rig_open(&rig, &quiet_service);
	struct worker *w = rig_worker(&rig, 0);
	for (unsigned i = 0; i < 3; i++) {
		w->now += i / 2;
		record_add(&w->record, &peer_2, reasons[i], w->now);
		record_add(&w->record, &peer_3, SHED_FULL, w->now);
	}
	cr_assert_eq(port_records(rig.port, &peer_2, &net, &records), 0);
	cr_assert_eq(records.n_peer, 3);
	cr_assert_eq(records.n_net, 0);
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(records.peer[i].reason, reasons[2 - i], "row %u", i);
	rig_close(&rig);
}

Test(collect, whom_a_spell_hit_most_is_named)
{
	struct rig rig;
	struct state_spell spell;
	char text[PORT_TOP_MAX];
	rig_init(&rig, 1, 1);
	rig_open(&rig, &quiet_service);
	int client = rig_serve(&rig, 0);
	cr_assert(state_read_spell(&rig.port->state, rig.now, &spell));
	struct worker *w = rig_worker(&rig, 0);
	for (unsigned i = 0; i < 3; i++) {
		struct prefix net = prefix_mask(i < 2 ? &peer_3 : &peer_2, 32, 64);
		source_note_shed(rig.port->sources, &net, SHED_FULL, true, w->now);
	}
	cr_assert_str_eq(port_format_top_shed(rig.port, &spell, text),
	        "; most of them from 127.0.0.3 (2), 127.0.0.2 (1)");
	(void)close(client);
	rig_close(&rig);
}
