/*
 * bucket.c - token buckets, as the time at which they will be full (GCRA's theoretical
 * arrival time): nothing has to be refilled, and a bucket that is left alone is full.
 *
 * Let T = 1/rate be a token's time, B the burst, F the time at which the bucket will be
 * full. A take at time x succeeds if F <= x + (B-1)T, and then F := max(F, x) + T.
 *
 * The bound. Of the takes with x in a window [s, s+t], let a at x1 be the first and z at
 * x2 the last of m in the order in which the bucket saw them. After a, F >= x1 + T; each
 * take adds T at least; so before z, F >= x1 + (m-1)T. z succeeded: F <= x2 + (B-1)T.
 * Hence (m-1)T <= x2 - x1 + (B-1)T, so m <= B + rate * (x2 - x1) <= B + rate * t. Nothing
 * here needs x1 <= x2: clocks of threads may disagree. Nothing is refused that this
 * allows: F is x + kT for the x at which the bucket was last full and the k takes since,
 * and a refusal says that these k and one more are above the bound for the window from x.
 *
 * Exact. T is no whole number of ns (rate 3: 333,333,333 1/3). So F is kept as ns and a
 * part counted in 1/rate ns, T is added as its quotient and its remainder of 1e9/rate,
 * and all comparisons are in units of 1/rate ns: no rounding, no drift; rate 3 gives
 * 10,800 an hour. That is 93 bits at the greatest rate. In 64 bits one would have to
 * round (a bound that is off by a token now and then) or to wrap (a bucket left alone
 * for too long looks empty), so threads that share a bucket take a lock for some ten
 * instructions, in which nothing can sleep. A take costs 19 ns of CPU time, up to 34
 * where two threads do nothing else (tests/bench/bench_checks.c); a connection costs
 * 40,000.
 *
 * Giving back. Had the take A at xA never been, F would be G, and G <= F - T + L with L the
 * greatest of 0 and xB - xA over the takes B after A that found F < xB + T: in G's history the
 * bucket was full then, and the time from xA to xB was spilt. For a take at x: where G >= x, both
 * grow by T. Where G < x, G becomes x + T; F becomes F + T at least, which is x + 2T if F >= x + T,
 * and else xA + 2T, for as long as A counts F >= xA + T: then L >= x - xA, and x + T <= xA + T + L.
 * full_seen is the latest such xB; so F becomes F - T + L, or stays where L >= T. The bound holds
 * for the takes that were not given back, and what is lost is the time L, not a token.
 *
 * A return lowers F after the fact: a take before it may have found F < x + T as it would have been.
 * So a return counts as such a take, for all tokens that were taken before it.
 *
 * A change of the rate, from burst B to B'. A bucket that lacks n tokens had B - n, and has at least
 * the lesser of that and B' afterwards: nobody is refused whom the limit of before and the new one,
 * with the same takes behind it, both allow. A full one stays full. So it lacks n afterwards, less
 * B - B' where B' is the lesser; as a number of 1/rate ns a token is the same for every rate.
 *
 * Invariants: part < rate; F is never lowered but by bucket_return and by a change of the
 * rate.
 */
#include "core/bucket.h"

#include "base/clock.h"

/* A token, in units of 1/rate ns. */
#define TOKEN CLOCK_SEC

void bucket_rate_change(
        struct bucket_rate *rate, uint32_t per_second, uint32_t burst, uint64_t now)
{
	if (per_second == 0 || burst == 0)
		burst = per_second;
	if (per_second == rate->rate && burst == rate->burst)
		return;
	*rate = (struct bucket_rate){.rate = per_second,
	        .burst = burst,
	        .rate_before = rate->rate,
	        .burst_before = rate->burst,
	        .generation = rate->generation + 1,
	        .since = now};
	if (per_second > 0) {
		rate->whole = (uint32_t)(TOKEN / per_second);
		rate->rest = (uint32_t)(TOKEN % per_second);
		rate->slack = (burst - 1) * TOKEN;
	}
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* What b lacks, in units of 1/rate ns; UINT64_MAX if it is more than that holds. */
static uint64_t bucket_lack(const struct bucket *b, uint32_t rate, uint64_t now)
{
	uint64_t lack;

	if (b->full_at < now)
		return 0;
	if (__builtin_mul_overflow(b->full_at - now, (uint64_t)rate, &lack) ||
	        __builtin_add_overflow(lack, (uint64_t)b->part, &lack))
		return UINT64_MAX;
	return lack;
}

/* What b lacks under the new rate, from the change on. */
static uint64_t lack_after(const struct bucket *b, const struct bucket_rate *rate)
{
	uint64_t all = rate->slack + TOKEN;
	uint64_t fewer = rate->burst_before > rate->burst
	                         ? (rate->burst_before - rate->burst) * TOKEN
	                         : 0;
	uint64_t lack = bucket_lack(b, rate->rate_before, rate->since);

	/* Without a limit there is nothing to lack. */
	if (rate->rate_before == 0 || rate->rate == 0 || lack <= fewer)
		return 0;
	/* Above all where the clock of the last taker was ahead of that of the change. */
	return lack - fewer < all ? lack - fewer : all;
}

void bucket_adapt(struct bucket *b, const struct bucket_rate *rate)
{
	if (b->generation == rate->generation)
		return;
	uint64_t lack = lack_after(b, rate);

	b->generation = rate->generation;
	/* No take from before may be given back: above the time of every one, also of threads
	 * whose now is not the same as that of who made the change. */
	if (b->full_at > 0)
		b->full_seen = max_u64(b->full_seen, rate->since + CLOCK_SEC);
	b->part = 0;
	if (lack > 0) {
		b->full_at = rate->since + lack / rate->rate;
		b->part = (uint32_t)(lack % rate->rate);
	} else if (b->full_at > rate->since) {
		b->full_at = rate->since;
	}
}

int bucket_take(struct bucket *b, const struct bucket_rate *rate, uint64_t now)
{
	if (rate->rate == 0)
		return 0;
	bucket_adapt(b, rate);
	uint64_t lack = bucket_lack(b, rate->rate, now);

	if (lack > rate->slack)
		return BUCKET_EMPTY;
	if (lack < TOKEN)
		b->full_seen = max_u64(b->full_seen, now);
	if (b->full_at < now) {
		b->full_at = now;
		b->part = 0;
	}
	b->full_at += rate->whole;
	b->part += rate->rest;
	if (b->part >= rate->rate) {
		b->part -= rate->rate;
		b->full_at++;
	}
	return 0;
}

void bucket_return(
        struct bucket *b, const struct bucket_rate *rate, uint64_t taken, uint64_t now)
{
	uint64_t spilt = b->full_seen > taken ? b->full_seen - taken : 0;

	if (rate->rate == 0 || b->generation != rate->generation || spilt > rate->whole)
		return;
	b->full_at -= rate->whole;
	if (b->part < rate->rest) {
		b->part += rate->rate;
		b->full_at--;
	}
	b->part -= rate->rest;
	b->full_at += spilt;
	if (taken < now)
		b->full_seen = max_u64(b->full_seen, now);
}

uint32_t bucket_tokens(
        const struct bucket *b, const struct bucket_rate *rate, uint64_t now)
{
	struct bucket copy = *b;

	if (rate->rate == 0)
		return UINT32_MAX;
	bucket_adapt(&copy, rate);
	uint64_t lack = bucket_lack(&copy, rate->rate, now);

	return lack > rate->slack ? 0 : (uint32_t)((rate->slack + TOKEN - lack) / TOKEN);
}

uint64_t bucket_wait(const struct bucket *b, const struct bucket_rate *rate, uint64_t now)
{
	struct bucket copy = *b;

	if (rate->rate == 0)
		return 0;
	bucket_adapt(&copy, rate);
	uint64_t lack = bucket_lack(&copy, rate->rate, now);

	if (lack <= rate->slack)
		return 0;
	uint64_t over = lack - rate->slack;

	return over / rate->rate + (over % rate->rate > 0);
}

bool bucket_is_full(const struct bucket *b, const struct bucket_rate *rate, uint64_t now)
{
	struct bucket copy = *b;

	bucket_adapt(&copy, rate);
	return bucket_lack(&copy, rate->rate, now) == 0;
}

void bucket_shared_init(struct bucket_shared *s)
{
	*s = (struct bucket_shared){.is_on = 0};
	/* Cannot fail on Linux: no attributes, nothing is allocated. */
	(void)pthread_mutex_init(&s->lock, NULL);
}

void bucket_shared_destroy(struct bucket_shared *s)
{
	(void)pthread_mutex_destroy(&s->lock);
}

void bucket_shared_set(
        struct bucket_shared *s, uint32_t rate, uint32_t burst, uint64_t now)
{
	(void)pthread_mutex_lock(&s->lock);
	bucket_adapt(&s->bucket, &s->rate);
	bucket_rate_change(&s->rate, rate, burst, now);
	atomic_store(&s->is_on, rate > 0);
	(void)pthread_mutex_unlock(&s->lock);
}

int bucket_shared_take(struct bucket_shared *s, uint64_t now)
{
	if (atomic_load_explicit(&s->is_on, memory_order_relaxed) == 0)
		return 0;
	(void)pthread_mutex_lock(&s->lock);
	int r = bucket_take(&s->bucket, &s->rate, now);

	(void)pthread_mutex_unlock(&s->lock);
	return r;
}

void bucket_shared_return(struct bucket_shared *s, uint64_t taken, uint64_t now)
{
	(void)pthread_mutex_lock(&s->lock);
	bucket_return(&s->bucket, &s->rate, taken, now);
	(void)pthread_mutex_unlock(&s->lock);
}

uint32_t bucket_shared_tokens(struct bucket_shared *s, uint64_t now)
{
	(void)pthread_mutex_lock(&s->lock);
	uint32_t tokens = bucket_tokens(&s->bucket, &s->rate, now);

	(void)pthread_mutex_unlock(&s->lock);
	return tokens;
}

uint64_t bucket_shared_wait(struct bucket_shared *s, uint64_t now)
{
	(void)pthread_mutex_lock(&s->lock);
	uint64_t wait = bucket_wait(&s->bucket, &s->rate, now);

	(void)pthread_mutex_unlock(&s->lock);
	return wait;
}
