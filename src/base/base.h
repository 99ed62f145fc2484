/*
 * base.h
 *	  Includes all headers of this directory that most files need.
 */
#ifndef CREDITS_BASE_BASE_H
#define CREDITS_BASE_BASE_H

#include "base/args.h"
#include "base/channels.h"
#include "base/clock.h"
#include "base/errors.h"
#include "base/json.h"
#include "base/levels.h"
#include "base/locales.h"
#include "base/names.h"
#include "base/random.h"
#include "base/settings.h"



#endif							/* CREDITS_BASE_BASE_H */
