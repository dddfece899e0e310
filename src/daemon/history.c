/*
 * history.c - the ring of entries, and what is kept back for it.
 *
 * Invariants: an entry that was written is not touched again until it is overwritten; a topic that
 * keeps something back writes nothing else before that.
 */
#include "daemon/history.h"

#include <string.h>

/* At the end of a text that was cut. */
#define CUT "..."

static const struct {
	const char *name;
	enum history_topic_id topic;
} kinds[HISTORY_KIND_COUNT] = {
#define X(kind, name, topic, help) [HISTORY_##kind] = {name, HISTORY_TOPIC_##topic},
#include "daemon/history.def"
#undef X
};

const char *history_kind_name(enum history_kind kind)
{
	return kinds[kind].name;
}

enum history_kind history_kind_opposite(enum history_kind kind)
{
	enum history_topic_id topic = kinds[kind].topic;

	for (enum history_kind k = 0; k < HISTORY_KIND_COUNT; k++) {
		if (k != kind && kinds[k].topic == topic && topic != HISTORY_TOPIC_NONE)
			return k;
	}
	return kind;
}

static void write_entry(struct history *h, const struct history_entry *entry)
{
	struct history_entry *place = &h->ring[h->n++ % HISTORY_SIZE];

	*place = *entry;
	place->number = h->n;
	/* Workers tell of things a moment later, and each has a clock reading of its own. */
	if (place->at < h->latest)
		place->at = h->latest;
	h->latest = place->at;
}

static bool topic_may_write(const struct history_topic *t, uint64_t now)
{
	return t->full_at <= now ||
	       t->full_at - now <= (HISTORY_BURST - 1) * HISTORY_PACE_NS;
}

/* Uses up one of the entries in a row. */
static void topic_take(struct history_topic *t, uint64_t now)
{
	t->full_at = (t->full_at > now ? t->full_at : now) + HISTORY_PACE_NS;
}

/* Keeps the entry back, as the last of those that are. */
static void topic_keep(struct history_topic *t, const struct history_entry *entry)
{
	uint64_t n = t->kept.summed, since = n ? t->kept.since : entry->at;

	if (n == 0)
		memset(t->kinds, 0, sizeof(t->kinds));
	if (t->kinds[entry->kind] < UINT32_MAX)
		t->kinds[entry->kind]++;
	t->kept = *entry;
	t->kept.summed = n + 1;
	t->kept.alike = t->kinds[entry->kind];
	t->kept.since = since;
	t->kept.last = entry->at;
}

/* Writes what is kept back, as of now. */
static void topic_release(struct history *h, struct history_topic *t, uint64_t now)
{
	topic_take(t, now);
	t->kept.at = now;
	write_entry(h, &t->kept);
	t->kept.summed = 0;
}

void history_set_text(struct history_entry *entry, const char *text)
{
	size_t len = strlen(text), most = sizeof(entry->text) - sizeof(CUT);

	if (len < sizeof(entry->text)) {
		memcpy(entry->text, text, len + 1);
		return;
	}
	/* Not in the midst of a character of UTF-8. */
	while (most > 0 && ((unsigned char)text[most] & 0xc0) == 0x80)
		most--;
	memcpy(entry->text, text, most);
	memcpy(entry->text + most, CUT, sizeof(CUT));
}

void history_add(struct history *h, const struct history_entry *entry)
{
	enum history_topic_id id = kinds[entry->kind].topic;

	if (id == HISTORY_TOPIC_NONE) {
		write_entry(h, entry);
		return;
	}
	struct history_topic *t = &h->topic[id];
	if (t->kept.summed == 0 && topic_may_write(t, entry->at)) {
		topic_take(t, entry->at);
		write_entry(h, entry);
		return;
	}
	uint64_t lost =
	        t->kept.summed && entry->kind == HISTORY_REPORTS_LOST ? t->kept.lost : 0;
	topic_keep(t, entry);
	if (entry->kind == HISTORY_REPORTS_LOST)
		t->kept.lost += lost;
}

void history_flush(struct history *h, uint64_t now)
{
	for (enum history_topic_id id = 0; id < HISTORY_TOPIC_COUNT; id++) {
		struct history_topic *t = &h->topic[id];
		if (id != HISTORY_TOPIC_SPELL && t->kept.summed &&
		        topic_may_write(t, now))
			topic_release(h, t, now);
	}
}

bool history_begin_spell(struct history *h, const struct history_entry *entry)
{
	struct history_topic *t = &h->topic[HISTORY_TOPIC_SPELL];

	h->spell_on = true;
	h->spell_told = t->kept.summed == 0 && topic_may_write(t, entry->at);
	if (h->spell_told) {
		topic_take(t, entry->at);
		write_entry(h, entry);
		return true;
	}
	struct history_spells sum = {.n = 0};
	if (t->kept.summed)
		sum = t->kept.spells;
	sum.cause = entry->full.cause;
	topic_keep(t, &(struct history_entry){
	                      .kind = HISTORY_SPELLS, .at = entry->at, .spells = sum});
	return false;
}

void history_end_spell(struct history *h, const struct history_entry *entry)
{
	struct history_spells *sum = &h->topic[HISTORY_TOPIC_SPELL].kept.spells;
	const struct history_spells *spell = &entry->spells;

	if (history_tells_end(h)) {
		write_entry(h, entry);
	} else if (h->spell_on) {
		sum->n++;
		sum->lasted += spell->lasted;
		sum->shed += spell->shed;
		if (spell->depth_peak > sum->depth_peak)
			sum->depth_peak = spell->depth_peak;
		h->topic[HISTORY_TOPIC_SPELL].kept.last = entry->at;
	}
	h->spell_on = false;
}

bool history_spells_are_due(const struct history *h, uint64_t now)
{
	return history_sums_spells(h) &&
	       topic_may_write(&h->topic[HISTORY_TOPIC_SPELL], now);
}

void history_set_nets(struct history *h, const struct history_net *nets, unsigned n_nets)
{
	struct history_spells *sum = &h->topic[HISTORY_TOPIC_SPELL].kept.spells;

	sum->n_nets = n_nets < HISTORY_NETS_MAX ? n_nets : HISTORY_NETS_MAX;
	for (unsigned i = 0; i < sum->n_nets; i++)
		sum->net[i] = nets[i];
}

void history_write_spells(struct history *h, uint64_t now)
{
	struct history_topic *t = &h->topic[HISTORY_TOPIC_SPELL];

	t->kept.spells.goes_on = h->spell_on;
	topic_release(h, t, now);
	/* What goes on has been told of, and so will its end be. */
	h->spell_told = true;
}

const struct history_entry *history_next(
        const struct history *h, uint64_t since, uint64_t *ret_lost)
{
	uint64_t oldest = h->n > HISTORY_SIZE ? h->n - HISTORY_SIZE + 1 : 1;

	*ret_lost = since + 1 < oldest ? oldest - since - 1 : 0;
	if (since + 1 < oldest)
		since = oldest - 1;
	return since < h->n ? &h->ring[since % HISTORY_SIZE] : NULL;
}
