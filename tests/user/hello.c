/* The smallest program with a C library: arguments, environment, output, memory, files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
  printf("hello from ring 3, %d arguments:", argc - 1);
  for (int i = 1; i < argc; ++i) printf(" [%s]", argv[i]);
  printf("\n");
  char *memory = malloc(5000000);
  if (memory == NULL) return 2;
  memset(memory, 7, 5000000);
  double product = 1;
  for (int i = 1; i <= 10; ++i) product *= i * 0.5;
  printf("memory %d, product %.3f\n", memory[4999999], product);
  return argc > 1 && strcmp(argv[1], "fail") == 0 ? 3 : 0;
}
