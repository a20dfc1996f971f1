/* A program in C that beats once per step; CEML's lines are marked. */
#include <stdio.h>
#include <stdlib.h>

#include "ceml_heartbeat.h" /* CEML */

int main(int count, char **words) {
    int steps = count > 1 ? atoi(words[1]) : 200;
    double sum = 0;
    ceml_heartbeats hb;
    ceml_attach(&hb, "c", steps); /* CEML */
    for (int step = 0; step < steps; step++) {
        for (int i = 1; i < 200000; i++) sum += 1.0 / i;
        ceml_beat_metric(&hb, 1, "sum", sum); /* CEML */
    }
    ceml_close(&hb); /* CEML */
    printf("done: %d steps, sum %.3f\n", steps, sum);
    return 0;
}
