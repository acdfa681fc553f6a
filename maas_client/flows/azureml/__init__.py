"""The verbs on Azure Machine Learning, and on the local server in the azureml dialect."""
