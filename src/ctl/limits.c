/*
 * limits.c - «portctl limits»: asks portd, looks at the machine, reckons.
 *
 * Invariants: without a portd there is an answer all the same, and it says what it is for; the
 * process that is looked at is the peer of the control socket as the kernel names it here, for
 * portd knows itself by another number where it is in a container.
 */
#include "ctl/limits.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "ctl/reason.h"

int limits_collect(const struct command_call *call, struct limits_chain *c)
{
	OWN_ANSWER struct client_answer answer = {0};
	int r = client_ask(
	        call->path, call->request, call->timeout_s * CLOCK_SEC, &answer);
	int err = errno;

	(void)snprintf(c->socket, sizeof(c->socket), "%s", call->path);
	if (r) {
		reason_format(call->path, r, err, call->timeout_s, c->why_not,
		        sizeof(c->why_not));
		limits_machine_read("", LIMITS_NONE, &c->machine);
		limits_portd_assume(&c->machine, &c->portd);
		limits_config_read("", &c->portd);
	} else if (strncmp(answer.bytes, "error:", 6) == 0) {
		answer.bytes[strcspn(answer.bytes, "\n")] = '\0';
		(void)snprintf(c->why_not, sizeof(c->why_not), "%s", answer.bytes);
		return 1;
	} else if (strlen(answer.bytes) != answer.len ||
	           limits_portd_parse(answer.bytes, &c->portd) < 0) {
		return -EINVAL;
	} else {
		limits_machine_read("", answer.peer, &c->machine);
	}
	limits_chain_compute(c);
	return 0;
}
