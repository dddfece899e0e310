/*
 * queue_age.c - see queue_age.h.
 *
 * Invariants: numbers and times of the counts kept both grow; two that are neighbours but one are at
 * least `spacing` apart, so that the ring reaches back as far as QUEUE_AGE_COUNTS / 2 times that.
 */
#include "core/queue_age.h"

#include "base/clock.h"

void queue_age_init(struct queue_age *q)
{
	(void)pthread_mutex_init(&q->lock, NULL);
	q->oldest = q->next = 0;
	q->epoch = 0;
	atomic_init(&q->known, false);
}

void queue_age_destroy(struct queue_age *q)
{
	(void)pthread_mutex_destroy(&q->lock);
}

/* The count n, which is kept. */
static struct queue_count *count_at(struct queue_age *q, uint64_t n)
{
	return &q->count[n % QUEUE_AGE_COUNTS];
}

static void set_oldest(struct queue_age *q, uint64_t n)
{
	q->oldest = n;
	atomic_store_explicit(&q->known, q->oldest < q->next, memory_order_relaxed);
}

uint32_t queue_age_epoch(struct queue_age *q)
{
	(void)pthread_mutex_lock(&q->lock);
	uint32_t epoch = q->epoch;
	(void)pthread_mutex_unlock(&q->lock);
	return epoch;
}

/* The newest count may be replaced: the one before it is so close to `at`. */
static bool is_close(struct queue_age *q, uint64_t at, uint64_t spacing)
{
	return q->next - q->oldest >= 2 &&
	       at < clock_add(count_at(q, q->next - 2)->at, spacing);
}

static void note(struct queue_age *q, const struct queue_look *look, uint64_t spacing)
{
	if (q->oldest < q->next) {
		const struct queue_count *newest = count_at(q, q->next - 1);
		/* It was read before that one was. */
		if (look->at < newest->at)
			return;
		/* Somebody else has taken clients off the queue. */
		if (look->most < newest->number)
			set_oldest(q, q->next);
		else if (look->number <= newest->number)
			return;
	}
	if (!is_close(q, look->at, spacing))
		q->next++;
	*count_at(q, q->next - 1) =
	        (struct queue_count){.number = look->number, .at = look->at};
	set_oldest(q, q->next - q->oldest > QUEUE_AGE_COUNTS ? q->next - QUEUE_AGE_COUNTS
	                                                     : q->oldest);
}

void queue_age_note(struct queue_age *q, const struct queue_look *look, uint64_t spacing)
{
	(void)pthread_mutex_lock(&q->lock);
	if (look->epoch == q->epoch)
		note(q, look, spacing);
	(void)pthread_mutex_unlock(&q->lock);
}

uint64_t queue_age_since(struct queue_age *q, uint64_t number)
{
	uint64_t since = CLOCK_INFINITY, n;

	(void)pthread_mutex_lock(&q->lock);
	for (n = q->oldest; n < q->next && count_at(q, n)->number < number; n++)
		;
	set_oldest(q, n);
	if (n < q->next)
		since = count_at(q, n)->at;
	(void)pthread_mutex_unlock(&q->lock);
	return since;
}

void queue_age_forget(struct queue_age *q)
{
	(void)pthread_mutex_lock(&q->lock);
	q->epoch++;
	set_oldest(q, q->next);
	(void)pthread_mutex_unlock(&q->lock);
}

void queue_age_empty(struct queue_age *q, uint64_t at)
{
	uint64_t n;

	(void)pthread_mutex_lock(&q->lock);
	for (n = q->oldest; n < q->next && count_at(q, n)->at <= at; n++)
		;
	set_oldest(q, n);
	(void)pthread_mutex_unlock(&q->lock);
}
