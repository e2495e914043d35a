// A program of one room and those below it: that it links is the test.
int main() {}
