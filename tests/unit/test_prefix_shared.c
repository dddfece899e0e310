/*
 * test_prefix_shared.c - a set of networks that threads share and give up at the same time: its memory
 * goes once, and with the last of them (the linker wraps free).
 */
#include <criterion/criterion.h>

#include <pthread.h>
#include <stdatomic.h>

#include "net/prefix.h"

#define RACERS 2
#define ROUNDS 5000000U

/* Its memory is kept, so that what comes after a wrong free is no crash but a number. */
static void *_Atomic watched;
static _Atomic unsigned freed;

void __wrap_free(void *memory);
void __real_free(void *memory);
void __wrap_free(void *memory)
{
	if (memory && memory == atomic_load(&watched))
		atomic_fetch_add(&freed, 1);
	else
		__real_free(memory);
}

static pthread_barrier_t start;

static void *share_and_free(void *arg)
{
	struct prefix_set *set = arg;

	(void)pthread_barrier_wait(&start);
	for (unsigned i = 0; i < ROUNDS; i++)
		(void)prefix_set_free(prefix_set_share(set));
	return NULL;
}

Test(prefix_shared, threads_share_and_free_a_set)
{
	pthread_t thread[RACERS];
	struct prefix_set *set = NULL;

	cr_assert_eq(prefix_set_parse("203.0.113.0/24", &set, NULL, NULL), 0);
	atomic_store(&watched, set);
	cr_assert_eq(pthread_barrier_init(&start, NULL, RACERS), 0);
	for (int i = 0; i < RACERS; i++)
		cr_assert_eq(pthread_create(&thread[i], NULL, share_and_free, set), 0);
	for (int i = 0; i < RACERS; i++)
		cr_assert_eq(pthread_join(thread[i], NULL), 0);
	(void)pthread_barrier_destroy(&start);
	cr_assert_eq(atomic_load(&freed), 0, "it was freed under its holder");
	(void)prefix_set_free(set);
	cr_assert_eq(atomic_load(&freed), 1, "its last holder has not freed it");
	atomic_store(&watched, NULL);
	__real_free(set);
}
