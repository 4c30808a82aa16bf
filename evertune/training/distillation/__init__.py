"""Knowledge distillation: a student model learns from a teacher."""
