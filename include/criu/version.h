/* The version of CRIU whose interfaces and images this library has, and the library's own. */

#ifndef CRIU_VERSION_H
#define CRIU_VERSION_H

#define CRIU_VERSION "4.2"
#define CRIU_VERSION_MAJOR 4
#define CRIU_VERSION_MINOR 2

#define LIBCRIU_OWN_VERSION "0.1.0"

#endif /* CRIU_VERSION_H */
