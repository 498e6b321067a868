/* What the programs with pseudoterminals share. */
#ifndef TERMINALS_H
#define TERMINALS_H

#include "scene.h"

#include <pty.h>
#include <sys/ioctl.h>
#include <termios.h>

#endif
