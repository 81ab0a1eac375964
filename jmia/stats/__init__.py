"""Statistics: null distributions, ROC curves, intervals. Import the module you need."""
