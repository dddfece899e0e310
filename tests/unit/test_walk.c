/*
 * test_walk.c - walking through the connections of workers that go on opening and closing them: none
 * twice, none that stayed missing; bounded turns; walks that are given up in any state.
 */
#include "rig.h"

#include <stdlib.h>
#include <sys/resource.h>

#include "core/walk.h"
#include "serve/echo.h"

/* Connections of one worker, of several chunks. */
#define MANY 700U

struct crowd {
	struct rig rig;
	unsigned n;
	int client[2 * MANY];
	uint16_t port[2 * MANY]; /* of the client */
	struct conn *conn[2 * MANY];
};

static struct crowd crowd;

/* How often the client with this port was told of. */
static unsigned told[UINT16_MAX + 1];

/* One more client that worker 0 serves. */
RIG_FN void join(void)
{
	struct sockaddr_in sa;
	socklen_t len = sizeof(sa);
	unsigned i = crowd.n++;
	crowd.client[i] = rig_serve(&crowd.rig, 0);
	crowd.conn[i] = rig_newest(&crowd.rig, 0);
	cr_assert_eq(getsockname(crowd.client[i], (struct sockaddr *)&sa, &len), 0);
	crowd.port[i] = ntohs(sa.sin_port);
	/* The kernel gives the port of one that has left to the next one, too. */
	cr_assert_leq(told[crowd.port[i]], 1, "whoever had it was told of twice");
	told[crowd.port[i]] = 0;
}

RIG_FN void leave(unsigned i)
{
	conn_close(crowd.conn[i], CLOSE_ERROR);
	conn_free_closed(rig_worker(&crowd.rig, 0));
	crowd.client[i] = own_close(crowd.client[i]);
}

RIG_FN void begin(unsigned workers, unsigned n)
{
	struct rlimit nofile;
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &nofile), 0);
	nofile.rlim_cur = nofile.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &nofile), 0);
	rig_init(&crowd.rig, workers, 2 * MANY);
	rig_open(&crowd.rig, &echo_service);
	for (unsigned i = 0; i < n; i++)
		join();
}

RIG_FN void end(void)
{
	rig_close(&crowd.rig);
	for (unsigned i = 0; i < crowd.n; i++)
		crowd.client[i] = own_close(crowd.client[i]);
}

/* Asks worker 0 for a piece and turns it once. */
RIG_FN void piece(struct walk *walk)
{
	walk_ask(crowd.rig.port, walk, 0);
	cr_assert_not(walk_poll(walk), "not before the worker's turn");
	rig_turn(&crowd.rig, 0);
	cr_assert(walk_poll(walk), "one turn, one piece");
	cr_assert_leq(walk->n_rows, WALK_ROWS);
}

RIG_FN void note_rows(const struct walk *walk)
{
	for (unsigned i = 0; i < walk->n_rows; i++)
		told[walk->row[i].tuple.src.port]++;
}

RIG_FN struct walk *new_walk(struct prefix_set *only)
{
	struct walk *walk = NULL;
	cr_assert_eq(walk_create(crowd.rig.port, only, crowd.rig.now, &walk), 0);
	return walk;
}

Test(walk, tells_of_every_connection_once)
{
	begin(1, MANY);
	struct walk *walk = new_walk(NULL);
	unsigned turns = 0;
	for (walk_begin_worker(walk); !walk->over; turns++) {
		piece(walk);
		note_rows(walk);
	}
	cr_assert_geq(turns, MANY / WALK_ROWS);
	for (unsigned i = 0; i < MANY; i++)
		cr_assert_eq(told[crowd.port[i]], 1, "client %u: %u times", i,
		        told[crowd.port[i]]);
	walk = walk_destroy(crowd.rig.port, walk);
	end();
}

Test(walk, of_nothing_is_over_at_once)
{
	begin(1, 0);
	struct walk *walk = new_walk(NULL);
	walk_begin_worker(walk);
	piece(walk);
	cr_assert(walk->over);
	cr_assert_eq(walk->n_rows, 0);
	walk = walk_destroy(crowd.rig.port, walk);
	end();
}

Test(walk, what_stays_is_told_of_once_whatever_comes_and_goes)
{
	begin(1, MANY);
	bool stayed[2 * MANY];
	memset(stayed, true, sizeof(stayed));
	srand(5);
	struct walk *walk = new_walk(NULL);
	for (walk_begin_worker(walk); !walk->over;) {
		piece(walk);
		note_rows(walk);
		for (unsigned i = 0; i < 40 && crowd.n < 2 * MANY; i++) {
			unsigned k = (unsigned)rand() % crowd.n;
			if (stayed[k])
				leave(k);
			stayed[k] = false;
			stayed[crowd.n] = false;
			join();
		}
	}
	unsigned n = 0;
	for (unsigned i = 0; i < crowd.n; i++) {
		bool there = i < MANY && stayed[i];
		n += there;
		if (there)
			cr_assert_eq(told[crowd.port[i]], 1, "client %u stayed: %u times",
			        i, told[crowd.port[i]]);
		else
			cr_assert_leq(told[crowd.port[i]], 1, "client %u twice", i);
	}
	cr_assert_gt(n, MANY / 2);
	walk = walk_destroy(crowd.rig.port, walk);
	end();
}

Test(walk, figures_of_a_connection)
{
	begin(1, 1);
	cr_assert_eq(send(crowd.client[0], "12345", 5, 0), 5);
	crowd.rig.now += 3 * CLOCK_SEC;
	RIG_UNTIL(&crowd.rig, 0, crowd.conn[0]->bytes_out == 5);
	crowd.rig.now += 4 * CLOCK_SEC;
	struct walk *walk = new_walk(NULL);
	/* However late the worker is: times can be compared with other workers'. */
	crowd.rig.now += CLOCK_SEC;
	walk_begin_worker(walk);
	piece(walk);
	cr_assert_eq(walk->n_rows, 1);
	const struct walk_row *row = &walk->row[0];
	cr_assert_eq(row->bytes_in, 5);
	cr_assert_eq(row->bytes_out, 5);
	cr_assert_eq(row->idle, 4 * CLOCK_SEC);
	cr_assert_eq(row->age, 7 * CLOCK_SEC);
	cr_assert_eq(row->tuple.dst.port, crowd.rig.tcp_port);
	walk = walk_destroy(crowd.rig.port, walk);
	end();
}

Test(walk, only_those_from_a_network)
{
	begin(1, 3);
	struct prefix_set *all = NULL, *none = NULL;
	cr_assert_eq(prefix_set_parse("127.0.0.1", &all, NULL, NULL), 0);
	cr_assert_eq(prefix_set_parse("127.0.0.2 ::/0", &none, NULL, NULL), 0);
	struct walk *some = new_walk(all), *nobody = new_walk(none);
	all = prefix_set_free(all); /* the walk has its share */
	none = prefix_set_free(none);
	walk_begin_worker(some);
	walk_begin_worker(nobody);
	piece(some);
	piece(nobody);
	cr_assert_eq(some->n_rows, 3);
	cr_assert_eq(nobody->n_rows, 0);
	some = walk_destroy(crowd.rig.port, some);
	nobody = walk_destroy(crowd.rig.port, nobody);
	end();
}

Test(walk, has_a_bounded_turn_where_nearly_all_places_are_free)
{
	begin(1, MANY);
	for (unsigned i = 0; i < MANY; i++) {
		if (i % 100 != 99)
			leave(i);
	}
	struct walk *walk = new_walk(NULL);
	unsigned turns = 0, rows = 0;
	for (walk_begin_worker(walk); !walk->over; turns++) {
		piece(walk);
		rows += walk->n_rows;
	}
	cr_assert_eq(rows, MANY / 100);
	cr_assert_geq(turns, MANY / WALK_PASS, "more than WALK_PASS places in a turn");
	walk = walk_destroy(crowd.rig.port, walk);
	end();
}

Test(walk, several_have_a_piece_a_turn_in_rotation)
{
	begin(1, 300);
	struct walk *walk[WALK_PLACES], *more;
	for (unsigned i = 0; i < WALK_PLACES; i++) {
		walk[i] = new_walk(NULL);
		walk_begin_worker(walk[i]);
		walk_ask(crowd.rig.port, walk[i], 0);
	}
	cr_assert_eq(walk_create(crowd.rig.port, NULL, crowd.rig.now, &more), -EBUSY);
	for (unsigned turn = 1; turn <= WALK_PLACES; turn++) {
		unsigned done = 0;
		rig_turn(&crowd.rig, 0);
		for (unsigned i = 0; i < WALK_PLACES; i++)
			done += walk_poll(walk[i]);
		cr_assert_eq(done, turn);
	}
	for (unsigned i = 0; i < WALK_PLACES; i++)
		walk[i] = walk_destroy(crowd.rig.port, walk[i]);
	more = new_walk(NULL);
	more = walk_destroy(crowd.rig.port, more);
	end();
}

Test(walk, can_be_given_up_in_any_state)
{
	begin(2, 10);
	struct port *port = crowd.rig.port;
	/* Never asked; answered; waiting at a worker. */
	struct walk *walk = walk_destroy(port, new_walk(NULL));
	walk = new_walk(NULL);
	walk_begin_worker(walk);
	piece(walk);
	walk = walk_destroy(port, walk);
	walk = new_walk(NULL);
	walk_begin_worker(walk);
	walk_ask(port, walk, 0);
	walk = walk_destroy(port, walk);
	rig_turn(&crowd.rig, 0); /* finds nothing in its place */
	cr_assert_eq(port->walks, 0);

	/* Taken back, and given to another. */
	walk = new_walk(NULL);
	walk_begin_worker(walk);
	walk_ask(port, walk, 0);
	cr_assert_eq(walk_retract(port, walk, 0), 0);
	walk_begin_worker(walk);
	walk_ask(port, walk, 1);
	rig_turn(&crowd.rig, 0);
	cr_assert_not(walk_poll(walk));
	rig_turn(&crowd.rig, 1);
	cr_assert_eq(walk_retract(port, walk, 1), 1, "it was there by then");
	walk = walk_destroy(port, walk);
	end();
}

Test(walk, is_freed_by_a_worker_that_stood_still_while_it_wrote)
{
	begin(1, 10);
	struct port *port = crowd.rig.port;
	struct worker *w = rig_worker(&crowd.rig, 0);
	struct walk *walk = new_walk(NULL);
	walk_begin_worker(walk);
	walk_ask(port, walk, 0);
	/* The worker has taken it, and gets no further. */
	struct walk *taken = atomic_exchange(&w->walks[walk->place], NULL);
	cr_assert_eq(taken, walk);
	cr_assert_eq(walk_retract(port, walk, 0), -EBUSY);
	cr_assert_null(walk_destroy(port, walk));
	cr_assert_eq(port->walks, 0, "its place is free at once");
	/* A new one has that place, and is not touched when the worker goes on. */
	struct walk *next = new_walk(NULL);
	cr_assert_eq(next->place, taken->place);
	atomic_store(&w->walks[taken->place], taken);
	rig_turn(&crowd.rig, 0); /* frees it: a leak checker sees */
	cr_assert_null(atomic_load(&w->walks[next->place]));
	walk_begin_worker(next);
	piece(next);
	cr_assert_eq(next->n_rows, 10);
	next = walk_destroy(port, next);
	end();
}
