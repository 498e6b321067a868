/* Speaks on its standard output when it is told to look at itself. */
#include "scene.h"

int main(void)
{
	static const char words[] = "spoken\n";

	await_go();
	CHECK(write(1, words, sizeof(words) - 1) == sizeof(words) - 1, "write: %m");
	return verdict();
}
