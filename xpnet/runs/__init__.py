"""Problems, and the folders that their trainings leave behind."""
