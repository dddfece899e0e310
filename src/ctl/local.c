/*
 * local.c - portd says times in UTC; people read their own.
 */
#include "ctl/local.h"

#include <string.h>
#include <time.h>

/* 0: a digit; all else stands for itself. */
static const char form[] = "0000-00-00T00:00:00.000Z";
#define FORM_LEN (sizeof(form) - 1)
/* Where the milliseconds begin, with their point. */
#define FORM_POINT 19

static int is_time(const char *text, size_t len)
{
	if (len < FORM_LEN)
		return 0;
	for (size_t i = 0; i < FORM_LEN; i++) {
		int digit = text[i] >= '0' && text[i] <= '9';
		if (form[i] == '0' ? !digit : text[i] != form[i])
			return 0;
	}
	return 1;
}

static int number(const char *digits, size_t n)
{
	int value = 0;

	for (size_t i = 0; i < n; i++)
		value = value * 10 + (digits[i] - '0');
	return value;
}

/* FORM_LEN characters that are a time. */
static void write_time(const char *text, FILE *out)
{
	struct tm utc = {.tm_year = number(text, 4) - 1900,
	        .tm_mon = number(text + 5, 2) - 1,
	        .tm_mday = number(text + 8, 2),
	        .tm_hour = number(text + 11, 2),
	        .tm_min = number(text + 14, 2),
	        .tm_sec = number(text + 17, 2)};
	struct tm local;
	char date[40];
	time_t seconds = timegm(&utc);

	if (!localtime_r(&seconds, &local) ||
	        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &local) == 0) {
		(void)fwrite(text, 1, FORM_LEN, out);
		return;
	}
	long minutes = local.tm_gmtoff / 60, size = minutes < 0 ? -minutes : minutes;
	(void)fprintf(out, "%s%.4s%c%02ld:%02ld", date, text + FORM_POINT,
	        minutes < 0 ? '-' : '+', size / 60, size % 60);
}

void local_write(const char *text, size_t len, FILE *out)
{
	size_t done = 0;

	for (size_t i = 0; i < len;) {
		if (!is_time(text + i, len - i)) {
			i++;
			continue;
		}
		(void)fwrite(text + done, 1, i - done, out);
		write_time(text + i, out);
		i += FORM_LEN;
		done = i;
	}
	(void)fwrite(text + done, 1, len - done, out);
}
