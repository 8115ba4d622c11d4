"""The kinds of students and what is told of them: an encoder of the teacher's family, a residual one, small ones, a factory's."""
